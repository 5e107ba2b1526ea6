package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Listener is an address that is listened on, with all of its sockets: the kernel deals clients out to them, and whoever
// waits at one that nobody has open any more is reset. So they are handed on as they are, by their descriptors, never
// closed and opened anew.
type Listener struct {
	Addr    string     // as Config has it
	TLS     bool       // it stands in TLSAddrs
	Sockets []*os.File // all of them
}

// Close closes the descriptors. Other descriptors of the sockets keep them listening.
func (l *Listener) Close() {
	for _, f := range l.Sockets {
		_ = f.Close()
	}
	l.Sockets = nil
}

// Listeners are the addresses with new descriptors of their sockets, for another process. The caller closes them.
func (r *Relay) Listeners() ([]Listener, error) {
	var all []Listener
	for _, a := range []struct {
		conf, bound []string
		tls         bool
	}{{r.cfg.Addrs, r.addrs, false}, {r.cfg.TLSAddrs, r.tlsAddrs, true}} {
		for i, addr := range a.conf {
			l := Listener{Addr: addr, TLS: a.tls}
			err := r.eachSocket(a.bound[i], a.tls, func(fd int) error {
				fd, err := another(fd)
				if err == nil {
					l.Sockets = append(l.Sockets, os.NewFile(uintptr(fd), addr))
				}
				return err
			})
			all = append(all, l)
			if err != nil || len(l.Sockets) == 0 {
				for i := range all {
					all[i].Close()
				}
				return nil, errors.Join(fmt.Errorf("listeners of %s", addr), err)
			}
		}
	}
	return all, nil
}

// eachSocket calls f for every socket of an address, one after the other, until f fails.
func (r *Relay) eachSocket(bound string, tls bool, f func(fd int) error) error {
	var err error
	for _, e := range r.engines {
		e.do(func() {
			for _, l := range e.listeners {
				if l.addr == bound && l.tls == tls && err == nil {
					err = f(l.c.Hash())
				}
			}
		})
	}
	return err
}

// leftFor finds what another process has left for an address.
func (r *Relay) leftFor(addr string, tls bool) *Listener {
	for i := range r.cfg.Inherited {
		if l := &r.cfg.Inherited[i]; l.Addr == addr && l.TLS == tls && len(l.Sockets) > 0 {
			return l
		}
	}
	return nil
}

// inherit listens on another process's sockets. They may be more or fewer than there are engines: none may be left out,
// because the kernel goes on dealing clients to it.
func (r *Relay) inherit(left *Listener) (string, error) {
	bound := ""
	for i, f := range left.Sockets {
		fd, addr, err := r.listening(f)
		if err == nil && bound != "" && addr != bound {
			err = fmt.Errorf("it listens on %s, another one on %s", addr, bound)
			_ = unix.Close(fd)
		}
		if err == nil {
			err = r.engines[i%len(r.engines)].listenOnSocket(fd, addr, left.TLS)
		}
		if err != nil {
			return "", fmt.Errorf("inherited socket: %w", err)
		}
		bound = addr
	}
	if len(left.Sockets) < len(r.engines) {
		r.narrow = append(r.narrow, narrow{bound, left.TLS, len(left.Sockets)})
	}
	left.Close()
	return bound, nil
}

// listening takes a descriptor of a listening TCP socket, with the options that this program gives its own.
func (r *Relay) listening(f *os.File) (fd int, addr string, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return 0, "", err
	}
	err = control(rc, func(from int) error {
		if on, err := unix.GetsockoptInt(from, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 {
			return errors.Join(errors.New("it does not listen"), err)
		}
		if addr, err = boundTo(from); err != nil {
			return err
		}
		if err := errors.Join(unix.SetNonblock(from, true), r.tune(from)); err != nil {
			return err
		}
		fd, err = another(from)
		return err
	})
	return fd, addr, err
}

// boundTo is the address of a TCP socket, as net writes it.
func boundTo(fd int) (string, error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return "", err
	}
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String(), nil
	case *unix.SockaddrInet6:
		return (&net.TCPAddr{IP: sa.Addr[:], Port: sa.Port, Zone: zone(sa.ZoneId)}).String(), nil
	}
	return "", fmt.Errorf("a socket of another kind: %T", sa)
}

func zone(index uint32) string {
	if i, err := net.InterfaceByIndex(int(index)); index != 0 && err == nil {
		return i.Name
	}
	return ""
}

// narrow is an inherited address with fewer sockets than there are engines.
type narrow struct {
	bound   string
	tls     bool
	sockets int
}

// widen gives the engines sockets of their own that have inherited none. Only who accepts may do so: clients are dealt
// to them from this moment on.
func (r *Relay) widen() {
	lc := net.ListenConfig{KeepAlive: -1, Control: r.tuneSharedListener}
	for _, n := range r.narrow {
		for _, e := range r.engines[n.sockets:] {
			ln, err := bind(&lc, n.bound)
			if err == nil {
				err = e.listenOn(ln, n.tls)
			}
			if err != nil {
				r.log.Warn("a core does not accept clients of its own", "address", n.bound, "error", err)
			}
		}
	}
	r.narrow = nil
}

// Accept begins to accept, in a relay that was made to wait or that was paused.
func (r *Relay) Accept() {
	r.widening.Lock()
	defer r.widening.Unlock()
	r.widen()
	for _, e := range r.engines {
		e.do(func() { e.accepting = true; e.acceptAgain() })
	}
}

// Pause stops accepting and leaves the sockets open: clients queue there, until Accept, or for whoever else has them.
// Who was accepted is served. When it returns, no further client is accepted.
func (r *Relay) Pause() {
	for _, e := range r.engines {
		e.do(func() { e.accepting = false; e.acceptAgain() })
	}
}

// LetGo closes the listening sockets of a paused relay, which go on listening if another process has them.
func (r *Relay) LetGo() {
	for _, e := range r.engines {
		e.do(e.stopAccepting)
	}
}

// AwaitEmpty waits until nothing is left of any client, in a relay that accepts nobody; or until ctx ends, with its
// error. For one caller at a time.
func (r *Relay) AwaitEmpty(ctx context.Context) error {
	for r.sum(func(e *engine) int { return len(e.all) + len(e.fresh) + len(e.ripe) }) > 0 {
		select {
		case <-r.emptied:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// do runs f on the poller and waits for it. A stopped engine does nothing.
func (e *engine) do(f func()) {
	done := make(chan struct{})
	if e.post(func() { f(); close(done) }) {
		<-done
	}
}
