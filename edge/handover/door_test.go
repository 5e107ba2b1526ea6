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

// scene is a process that has sockets to hand over, one of them to be counted.
type scene struct {
	t      *testing.T
	ctx    context.Context
	dir    string
	end    func() // of the waiting at the door
	failed chan error
	done   chan handed
}

type handed struct {
	taker *Taker
	rate  int
	err   error
}

func newScene(t *testing.T, within time.Duration) *scene {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	s := &scene{t: t, ctx: ctx, dir: t.TempDir(), failed: make(chan error, 64), done: make(chan handed, 1)}
	door, err := Open(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(door.Close)
	offer := func() (*Offer, error) {
		return &Offer{Edge: "e-1", Items: []Item{{Kind: "lock", Files: []*os.File{listener(t)}}}}, nil
	}
	waiting, end := context.WithCancel(ctx)
	t.Cleanup(end)
	s.end = end
	go func() {
		taker, rate, err := door.HandOver(waiting, Terms{Offer: offer, Within: within, Failed: func(err error) { s.failed <- err }})
		s.done <- handed{taker, rate, err}
	}()
	return s
}

// take asks for the sockets and gets them.
func (s *scene) take() *Giver {
	s.t.Helper()
	g, err := Dial(s.dir)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(g.Close)
	o, err := g.Offer(s.ctx)
	if err != nil {
		s.t.Fatal(err)
	}
	o.Close()
	return g
}

// wantFailure waits until somebody is given up for that reason.
func (s *scene) wantFailure(why string) {
	s.t.Helper()
	select {
	case err := <-s.failed:
		if !strings.Contains(err.Error(), why) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
			s.t.Errorf("%q, want %q and the process", err, why)
		}
	case h := <-s.done:
		s.t.Fatalf("the hand-over has ended: %+v, want a failure: %s", h, why)
	case <-s.ctx.Done():
		s.t.Fatalf("nobody is given up: want %s", why)
	}
}

// wantRefused waits until a process is told why.
func (s *scene) wantRefused(g *Giver, why string) {
	s.t.Helper()
	if err := g.Commit(s.ctx, 0); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), why) {
		s.t.Errorf("%v, want %q", err, why)
	}
	if err := g.Refused(); !errors.Is(err, ErrRefused) {
		s.t.Errorf("and then %v", err)
	}
}

// wantHanded has g commit, and waits until it is the one that has taken over.
func (s *scene) wantHanded(g *Giver) {
	s.t.Helper()
	committed := make(chan error, 1)
	go func() { committed <- g.Commit(s.ctx, 7) }()
	select {
	case h := <-s.done:
		if h.err != nil || h.rate != 7 {
			s.t.Fatalf("%+v", h)
		}
		s.t.Cleanup(h.taker.Close)
		if err := h.taker.Stopped(); err != nil {
			s.t.Error(err)
		}
	case <-s.ctx.Done():
		s.t.Fatal("it does not take over")
	}
	if err := <-committed; err != nil {
		s.t.Error(err)
	}
}

// A process that was offered the sockets and hangs is given up in time, told so, and the next one takes over.
func TestHangsBeforeItsCommit(t *testing.T) {
	s := newScene(t, 50*time.Millisecond)
	hangs := s.take()
	s.wantFailure("no commit within 50ms")
	s.wantRefused(hangs, "no commit within 50ms")
	s = newScene(t, patience)
	s.wantHanded(s.take())
}

// While one hangs, a proper one takes over at once: the newest wins, and the others must not accept.
func TestNewestTakerWins(t *testing.T) {
	s := newScene(t, 10*patience)
	hangs := []*Giver{s.take(), s.take(), s.take()}
	proper := s.take()
	for range hangs {
		s.wantFailure("another process takes over instead")
	}
	s.wantHanded(proper)
	for _, g := range hangs {
		s.wantRefused(g, "another process takes over instead")
	}
}

// Processes that connect and say nothing keep nobody out, however many they are. Nor do they end one that has said hello.
func TestSilentTakers(t *testing.T) {
	s := newScene(t, 10*patience)
	early := s.take()
	var silent []net.Conn
	for range maxSilent + 10 {
		c, err := net.Dial("unixpacket", filepath.Join(s.dir, socketName))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		silent = append(silent, c)
	}
	for range 10 {
		s.wantFailure("says nothing")
	}
	s.wantHanded(early)
	for i, c := range silent {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if b, err := io.ReadAll(c); !strings.Contains(string(b), isRefused) {
			t.Errorf("silent one %d: %q %v", i, b, err)
		}
	}
}

// A commit that came in time counts, also if this process looks at it only after the time, or when another one has said
// hello since: the process that sent it accepts already.
func TestCommitIsNotOverlooked(t *testing.T) {
	ctx, _, g, taker := pair(t)
	offerOf(ctx, t, g, taker)
	if err := g.send(message{Is: isCommit, Rate: 3}); err != nil {
		t.Fatal(err)
	}
	over, cancel := context.WithTimeout(ctx, 0)
	defer cancel()
	if m, err := taker.wantWithin(over, patience, isCommit); m.Rate != 3 || err != nil {
		t.Errorf("%+v %v", m, err)
	}
}

// Whatever comes in, from another version or from nobody of ours, ends that hand-over and no more: the next one succeeds.
func TestStrangers(t *testing.T) {
	s := newScene(t, patience)
	for _, said := range []string{"", "{", `{"version":2,"is":"hello"}`, `{"version":1,"is":"commit"}`, fmt.Sprintf(`{"version":1,"is":%q}`, strings.Repeat("x", 70_000))} {
		c, err := net.Dial("unixpacket", filepath.Join(s.dir, socketName))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(c, said); err != nil {
			t.Fatal(err)
		}
		if said == "" {
			_ = c.Close()
		}
		s.wantFailure("")
		_ = c.Close()
	}
	s.wantHanded(s.take())
}

// The door ends with its context, and who was offered the sockets is told.
func TestDoorEnds(t *testing.T) {
	s := newScene(t, patience)
	g := s.take()
	s.end()
	if h := <-s.done; !errors.Is(h.err, context.Canceled) {
		t.Error(h.err)
	}
	s.wantRefused(g, "this edge stops")
}
