package relay

import (
	"context"
	"errors"
	"io"
	"syscall"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

func TestCloseTellsEverybody(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	c, o := f.open(b, "10")
	dialling := f.connect(requestFor("20"))
	b.next() // its origin thinks
	f.fence(50)
	held := f.connect(requestFor("60"))
	f.waitCounts("held", func(n Counts) bool { return n.Held == 1 })
	closed := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		closed <- f.Close(ctx)
	}()
	c.wantClose(1001, "edge is shutting down")
	c.send(closeFrame(1001, true)...)
	o.want(closeFrame(1001, true)...)
	for _, p := range []*peer{held, dialling} {
		if code, _, _ := p.status(); code != 503 {
			t.Errorf("%d, want 503", code)
		}
		_ = p.Close()
	}
	_, _ = c.Close(), o.Close()
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if err := f.Install(context.Background(), f.view(routing.Compile(rules(t, 100)))); !errors.Is(err, ErrClosed) {
		t.Errorf("Install after Close: %v", err)
	}
	f.Evict(testType, 0)
	if n := f.CountKeys(testType, routing.Keys{}, routing.IDs{}) + f.CountRouter(testType, "1") + f.EvictRouter(testType, "1"); n != 0 {
		t.Error(n)
	}
}

func TestCloseResetsWhenItsContextEnds(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	_, o := f.open(b, "10")
	f.connect(requestFor("20"))
	f.connect("GET / HT")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := f.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := io.Copy(io.Discard, o.br); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}
