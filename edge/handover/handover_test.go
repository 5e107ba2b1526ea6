package handover

import (
	"context"
	"errors"
	"fmt"
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
	if taker, err = door.Accept(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(taker.Close)
	return ctx, dir, g, taker
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
		sent <- taker.Offer(&Offer{Namespace: "demo", Unit: "u", Cluster: "c", Edge: "e-1", Directory: "d", Items: []Item{
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
		committed := make(chan error, 1)
		go func() { committed <- g.Commit(ctx, 7) }()
		if rate, err := taker.Committed(ctx); rate != 7 || err != nil {
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
		if _, err := taker.Committed(ctx); !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	})
	t.Run("the taker dies after it", func(t *testing.T) {
		ctx, _, g, taker := pair(t)
		go func() { _ = g.Commit(ctx, 0); g.Close() }()
		if _, err := taker.Committed(ctx); err != nil {
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
		taker.Refuse(errors.New("not today"))
		if _, err := g.Offer(ctx); err == nil || !strings.Contains(err.Error(), "not today") {
			t.Error(err)
		}
	})
	t.Run("patience has an end", func(t *testing.T) {
		_, _, _, taker := pair(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := taker.Committed(ctx); !errors.Is(err, context.Canceled) {
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
	taker, err := second.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	taker.Close()
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

// Whatever comes in, from another version or from nobody of ours, ends the hand-over and no more than that.
func TestStrangers(t *testing.T) {
	for _, said := range []string{"", "{", `{"version":2,"is":"hello"}`, `{"version":1,"is":"commit"}`, fmt.Sprintf(`{"version":1,"is":%q}`, strings.Repeat("x", 70_000))} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		dir := t.TempDir()
		door, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("unixpacket", filepath.Join(dir, socketName))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
		if said == "" {
			_ = c.Close()
		}
		if _, err := door.Accept(ctx); err == nil {
			t.Errorf("%.40q is a hello", said)
		}
		_ = c.Close()
		door.Close()
		cancel()
	}
}
