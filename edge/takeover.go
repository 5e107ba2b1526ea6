package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/edge/handover"
	"github.com/unitgate/unitgate/edge/relay"
)

const (
	// joinWithin is how long a process that takes over has for its first state. The other one goes on accepting meanwhile.
	joinWithin = 30 * time.Second

	// commitWithin is how long the other one waits for it, from its hello on: it may be slow to find its place, too.
	commitWithin = joinWithin + 15*time.Second

	// A process that is about to begin, or to accept again because its successor died, is waited for.
	approachWithin = 5 * time.Second
	approachEvery  = 50 * time.Millisecond

	readyEvery = 5 * time.Millisecond // how often a process that takes over looks whether it serves
)

// Kinds of what is handed over.
const (
	itemLock  = "lock" // of the state directory
	itemPlain = "listen"
	itemTLS   = "listen-tls"
	itemAdmin = "admin"
)

// takeover is what this process has from the one that accepted before it. Its methods do nothing, or return nothing, if
// it is nil.
type takeover struct {
	giver *handover.Giver
	offer *handover.Offer
	proof string // the other process's word for it, see agent.Predecessor
}

// settle finds this process its place in the home: it takes over from the one that works there, or begins with sockets
// of its own.
func (e *Edge) settle() (err error) {
	if e.home, err = agent.OpenHome(e.cfg.StateDir); err != nil {
		return err
	}
	if e.cfg.TakeOver {
		err = e.approach()
	} else {
		err = e.home.Lock()
	}
	switch {
	case errors.Is(err, agent.ErrLocked) && !e.cfg.TakeOver:
		return fmt.Errorf("%w; --take-over has this one take its place", err)
	case err != nil:
		return err
	case e.takeover == nil:
		e.dir, err = e.home.Resume(e.cfg.ID)
		return err
	}
	if err := e.takeover.fits(&e.cfg); err != nil {
		return err
	}
	if e.dir, err = e.home.Found(e.cfg.ID); err != nil {
		return err
	}
	e.takeover.proof, err = e.home.Succession(e.cfg.Namespace, e.takeover.offer.Edge, e.dir)
	return err
}

// approach gets an offer of the process that accepts, or the lock if there is none.
func (e *Edge) approach() error {
	for deadline := time.Now().Add(approachWithin); ; time.Sleep(approachEvery) {
		g, err := handover.Dial(e.home.Path())
		if err == nil {
			var o *handover.Offer
			if o, err = g.Offer(context.Background()); err == nil {
				e.takeover = &takeover{giver: g, offer: o}
				return nil
			}
			g.Close()
		}
		if !errors.Is(err, handover.ErrNobody) && !errors.Is(err, io.EOF) {
			return err
		}
		if err = e.home.Lock(); !errors.Is(err, agent.ErrLocked) {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%w, and does not hand its sockets over: stop it first", err)
		}
	}
}

// fits refuses what would not be the same edge to its clients.
func (t *takeover) fits(cfg *Config) error {
	o := t.offer
	for _, f := range []struct{ what, theirs, ours string }{
		{"namespace", o.Namespace, cfg.Namespace}, {"unit", o.Unit, cfg.Unit}, {"cluster", o.Cluster, cfg.Cluster},
	} {
		if f.theirs != f.ours {
			return fmt.Errorf("the edge that runs here is of %s %q, not %q: its sockets are not for this one", f.what, f.theirs, f.ours)
		}
	}
	if o.Ends != "" && o.Ends == pidNamespace() {
		return fmt.Errorf("edge %s does the work of this container's PID 1: the container ends with it, and this process with that; "+
			"start another container with the same --state-dir and network beside it", o.Edge)
	}
	if cfg.ID == o.Edge {
		return fmt.Errorf("the id %q is that of the edge that runs here, which keeps it until its last session ends: give another --id, or none", o.Edge)
	}
	return nil
}

// pidNamespace is this process's, as the kernel names it.
func pidNamespace() string {
	name, _ := os.Readlink("/proc/self/ns/pid") // "" on other systems, where nothing is handed over
	return name
}

// listeners are the sockets for the addresses that both processes have.
func (t *takeover) listeners(cfg Config) []relay.Listener {
	if t == nil {
		return nil
	}
	var all []relay.Listener
	for _, a := range []struct {
		kind  string
		addrs []string
	}{{itemPlain, cfg.Listen}, {itemTLS, cfg.ListenTLS}} {
		for _, addr := range a.addrs {
			if files := t.offer.Take(a.kind, addr); files != nil {
				all = append(all, relay.Listener{Addr: addr, TLS: a.kind == itemTLS, Sockets: files})
			}
		}
	}
	return all
}

// admin is the other process's admin listener, if this one wants the same.
func (t *takeover) admin(addr string) *os.File {
	if t == nil {
		return nil
	}
	files := t.offer.Take(itemAdmin, addr)
	if len(files) != 1 {
		return nil
	}
	return files[0]
}

func (t *takeover) predecessor() agent.Predecessor {
	if t == nil {
		return agent.Predecessor{}
	}
	return agent.Predecessor{ID: t.offer.Edge, Directory: t.offer.Directory, Proof: t.proof}
}

// release tells the former process that its sockets are not needed in reserve any more.
func (t *takeover) release() {
	if t != nil {
		t.giver.Release()
	}
}

func (t *takeover) close() {
	if t != nil {
		t.offer.Close()
		t.giver.Close()
	}
}

// takeOver accepts as soon as this edge serves, and has the former process stop. Until then that one accepts.
func (e *Edge) takeOver(ctx context.Context) error {
	if e.takeover == nil {
		return nil
	}
	late := time.NewTimer(joinWithin)
	defer late.Stop()
	look := time.NewTicker(readyEvery)
	defer look.Stop()
	for !e.agent.Ready() {
		select {
		case <-look.C:
			if err := e.takeover.giver.Refused(); err != nil {
				return err
			}
		case <-late.C:
			return fmt.Errorf("not ready after %v, so the take-over is off and edge %s goes on: %s", joinWithin, e.takeover.offer.Edge, e.unready())
		case <-ctx.Done():
			return nil
		}
	}
	e.serving.Store(true)
	e.relay.Accept()
	e.admin.serve(e)
	switch err := e.takeover.giver.Commit(ctx, e.cfg.TakeRate); {
	case errors.Is(err, handover.ErrRefused):
		e.serving.Store(false)
		return err
	case err != nil:
		e.log.Warn("the edge that was taken over from does not answer: this one accepts", "from", e.takeover.offer.Edge, "err", err)
	}
	for _, f := range e.takeover.offer.Take(itemLock, "") {
		if err := e.home.Inherit(f); err != nil { // it is held as long as some process has it
			e.log.Warn("the state directory can be taken by another process", "err", err)
		}
	}
	e.takeover.offer.Close()
	e.log.Info("taken over", "edge", e.ID(), "from", e.takeover.offer.Edge)
	return nil
}

// offer is what this process has for the next one.
func (e *Edge) offer() (*handover.Offer, error) {
	o := &handover.Offer{
		PID: os.Getpid(), Namespace: e.cfg.Namespace, Unit: e.cfg.Unit, Cluster: e.cfg.Cluster, Edge: e.dir.ID(), Directory: e.dir.Identity(), Ends: e.cfg.Ends,
	}
	lock, err := e.home.Share()
	if err != nil {
		return nil, err
	}
	o.Items = append(o.Items, handover.Item{Kind: itemLock, Files: []*os.File{lock}})
	ls, err := e.relay.Listeners()
	if err != nil {
		o.Close()
		return nil, err
	}
	for _, l := range ls {
		kind := itemPlain
		if l.TLS {
			kind = itemTLS
		}
		o.Items = append(o.Items, handover.Item{Kind: kind, Addr: l.Addr, Files: l.Sockets})
	}
	if e.admin != nil {
		f, err := e.admin.listener.(*net.TCPListener).File()
		if err != nil {
			o.Close()
			return nil, err
		}
		o.Items = append(o.Items, handover.Item{Kind: itemAdmin, Addr: e.cfg.Admin, Files: []*os.File{f}})
	}
	return o, nil
}
