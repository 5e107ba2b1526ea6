package handover

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const patience = 30 * time.Second

// pair connects the two ends over a directory whose path is too long for a unix socket's address.
func pair(t *testing.T) (ctx context.Context, dir string, g *Giver, taker *Taker) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	dir = filepath.Join(t.TempDir(), strings.Repeat("long", 40))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	door, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	if g, err = Dial(dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return ctx, dir, g, arrived(ctx, t, door)
}

// arrived is a process that has said hello at a door.
func arrived(ctx context.Context, t *testing.T, door *Door) *Taker {
	t.Helper()
	c, err := door.ln.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	taker, err := newTaker(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(taker.Close)
	if _, err := taker.want(ctx, isHello); err != nil {
		t.Fatal(err)
	}
	return taker
}

// committed is what a process has to say after its offer.
func (t *Taker) committed(ctx context.Context) (rate int, err error) {
	m, err := t.want(ctx, isCommit)
	return m.Rate, err
}

// offerOf is an offer without sockets, to someone who gets one.
func offerOf(ctx context.Context, t *testing.T, g *Giver, taker *Taker) {
	t.Helper()
	if err := taker.offer(&Offer{}); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Offer(ctx); err != nil {
		t.Fatal(err)
	}
}

func listener(t *testing.T) *os.File {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := ln.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Everything arrives as it was offered, also more sockets of one address than one message can carry, and works.
func TestOffer(t *testing.T) {
	ctx, dir, g, taker := pair(t)
	info, err := os.Stat(filepath.Join(dir, socketName))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	many := Item{Kind: "listen", Addr: "a:1"}
	for range maxFiles + 5 {
		many.Files = append(many.Files, listener(t))
	}
	sent := make(chan error, 1)
	go func() {
		sent <- taker.offer(&Offer{Namespace: "demo", Unit: "u", Cluster: "c", Edge: "e-1", Directory: "d", Items: []Item{
			{Kind: "lock", Files: []*os.File{listener(t)}}, many, {Kind: "listen", Addr: "a:2", Files: []*os.File{listener(t)}},
		}})
	}()
	o, err := g.Offer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	defer o.Close()
	if o.Namespace != "demo" || o.Unit != "u" || o.Cluster != "c" || o.Edge != "e-1" || o.Directory != "d" {
		t.Errorf("%+v", o)
	}
	files := o.Take("listen", "a:1")
	if len(files) != maxFiles+5 || len(o.Take("listen", "a:1")) != 0 || len(o.Take("lock", "")) != 1 || len(o.Take("listen", "a:3")) != 0 {
		t.Errorf("%d sockets", len(files))
	}
	ln, err := net.FileListener(files[maxFiles+4])
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	closeAll(files)
}

// The whole conversation, and what its end means at every point of it.
func TestConversation(t *testing.T) {
	t.Run("to the end", func(t *testing.T) {
		ctx, _, g, taker := pair(t)
		offerOf(ctx, t, g, taker)
		committed := make(chan error, 1)
		go func() { committed <- g.Commit(ctx, 7) }()
		if rate, err := taker.committed(ctx); rate != 7 || err != nil {
			t.Fatal(rate, err)
		}
		if err := taker.Stopped(); err != nil {
			t.Fatal(err)
		}
		if err := <-committed; err != nil {
			t.Fatal(err)
		}
		g.Release()
		if err := taker.Released(ctx); err != nil {
			t.Error(err)
		}
	})
	t.Run("the taker dies before the commit", func(t *testing.T) {
		ctx, _, g, taker := pair(t)
		g.Close()
		if _, err := taker.committed(ctx); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	t.Run("the taker dies after it", func(t *testing.T) {
		ctx, _, g, taker := pair(t)
		offerOf(ctx, t, g, taker)
		go func() { _ = g.Commit(ctx, 0); g.Close() }()
		if _, err := taker.committed(ctx); err != nil {
			t.Fatal(err)
		}
		if err := taker.Stopped(); err != nil {
			t.Fatal(err)
		}
		if err := taker.Released(ctx); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	t.Run("the giver dies", func(t *testing.T) {
		ctx, _, g, taker := pair(t)
		taker.Close()
		if err := g.Commit(ctx, 0); err == nil {
			t.Error("a dead process has stopped")
		}
		if _, err := g.Offer(ctx); err == nil {
			t.Error("a dead process offers")
		}
		g.Release()
	})
	t.Run("refused", func(t *testing.T) {
		ctx, _, g, taker := pair(t)
		go taker.refuse(errors.New("not today"))
		if _, err := g.Offer(ctx); err == nil || !strings.Contains(err.Error(), "not today") {
			t.Error(err)
		}
	})
	t.Run("patience has an end", func(t *testing.T) {
		_, _, _, taker := pair(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := taker.committed(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := taker.Released(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// The one who waits last is found; one who stops waiting takes nobody's place away.
func TestDoor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dir := t.TempDir()
	if _, err := Dial(dir); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	first, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	second, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	g, err := Dial(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	arrived(ctx, t, second).Close()
	second.Close()
	if _, err := Dial(dir); !errors.Is(err, ErrNobody) {
		t.Error(err)
	}
	if err := checkUser(1, 2); err == nil {
		t.Error("another user's process")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v %v", left, err)
	}
}
