package handover

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// Giver is the process that has the sockets, as the one sees it that takes them. One goroutine uses it.
type Giver struct {
	link
	last chan error // after the offer: nil, it has stopped; or why not
}

// Dial asks the process that accepts in a directory; ErrNobody: there is none.
func Dial(dir string) (*Giver, error) {
	at, done, err := address(dir, socketName)
	if err != nil {
		return nil, err
	}
	defer done()
	c, err := net.DialUnix("unixpacket", nil, at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, ErrNobody
	}
	if err != nil {
		return nil, fmt.Errorf("hand-over socket in %s: %w", dir, err)
	}
	g := &Giver{link{c}, make(chan error, 1)}
	if _, err = checkPeer(c); err == nil {
		err = g.send(message{Is: isHello})
	}
	if err != nil {
		g.Close()
		return nil, fmt.Errorf("hand-over: %w", err)
	}
	return g, nil
}

// Close ends the connection: before a commit nothing has happened then, after it the other end accepts again.
func (g *Giver) Close() { _ = g.c.Close() }

// Offer waits for what the other end hands over. The caller closes it.
func (g *Giver) Offer(ctx context.Context) (*Offer, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	m, err := g.want(ctx, isOffer)
	if err == nil && m.Offer == nil {
		err = errors.New("an empty offer")
	}
	if err != nil {
		return nil, notOffered(err)
	}
	o := m.Offer
	for range m.Items {
		it, files, err := g.receive(ctx)
		if err == nil && it.Is != isItem {
			closeAll(files)
			err = fmt.Errorf("it says %q instead of %q", it.Is, isItem)
		}
		if err != nil {
			o.Close()
			return nil, notOffered(err)
		}
		o.add(it.Kind, it.Addr, files)
	}
	go func() {
		_, err := g.want(context.Background(), isStopped)
		g.last <- err
	}()
	return o, nil
}

func notOffered(err error) error {
	if errors.Is(err, ErrRefused) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrRefused, err)
}

// Refused says why the other end does not hand over after all: it has given this process up since its offer, which must
// not accept then. nil: it has not.
func (g *Giver) Refused() error {
	select {
	case err := <-g.last:
		g.last <- err
		if errors.Is(err, ErrRefused) {
			return err
		}
	default:
	}
	return nil
}

func (o *Offer) add(kind, addr string, files []*os.File) {
	for i := range o.Items {
		if o.Items[i].Kind == kind && o.Items[i].Addr == addr {
			o.Items[i].Files = append(o.Items[i].Files, files...)
			return
		}
	}
	o.Items = append(o.Items, Item{kind, addr, files})
}

// Commit tells that this process accepts, and waits until the other one does not any more. It closes its sessions at a
// rate then, 0 for not at all. ErrRefused: it goes on, and this one must stop. Another error means that it is gone or does
// not answer: this one has the sockets.
func (g *Giver) Commit(ctx context.Context, rate int) error {
	if err := g.send(message{Is: isCommit, Rate: rate}); err != nil {
		if refused := g.Refused(); refused != nil {
			return refused
		}
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	select {
	case err := <-g.last:
		g.last <- err
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Release tells that the other end is not needed in reserve any more, and ends the connection.
func (g *Giver) Release() {
	_ = g.send(message{Is: isRelease}) // it may have ended
	g.Close()
}
