package relay

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Dead peers are gone within 2 minutes when idle and within 5 with bytes outstanding; a live one at a closed window is
// asked every 2 minutes in the end (TCP_RTO_MAX), and one question may get lost.
func TestSilenceLimits(t *testing.T) {
	q := silence{}.withDefaults()
	if d := time.Duration(q.idle+q.interval*q.count) * time.Second; d > 2*time.Minute-10*time.Second {
		t.Errorf("idle peers are given %v", d)
	}
	if d := q.unacked + 3*q.look; d > 5*time.Minute {
		t.Errorf("peers with bytes outstanding are given %v", d)
	}
	if d := q.unacked; d < 2*120*time.Second+10*time.Second {
		t.Errorf("a live peer that does not read may be silent for %v only", d)
	}
}

// Peers that vanish, in all the ways in which a session can wait for them, and live ones beside them that look alike.
// UNITGATE_DEAD_PEERS=1 has it take the real time, six minutes, instead of a hundredth of it.
func TestDeadPeers(t *testing.T) {
	b := newBackend(t) // before newFarSide: origins are reached as ever
	far := newFarSide(t)
	limits := silence{idle: 1, interval: 1, count: 2, unacked: 3500 * time.Millisecond, look: 200 * time.Millisecond}
	wait := patience
	if os.Getenv("UNITGATE_DEAD_PEERS") != "" {
		limits, wait = silence{}, 5*time.Minute
	}
	f := start(t, Config{Addrs: []string{far.near + ":0"}, Engines: 1, silence: limits}, b.addr())
	f.own()
	open := func() (client, origin *peer) {
		t.Helper()
		c, err := far.dial(f.Addrs()[0])
		if err != nil {
			t.Fatal(err)
		}
		client = newPeer(t, c)
		client.send([]byte(requestFor("7"))...)
		origin, _ = b.next()
		origin.send([]byte(switching)...)
		client.want([]byte(switching)...)
		for _, p := range []*peer{client, origin} {
			_ = p.SetDeadline(time.Now().Add(wait + time.Minute))
		}
		return client, origin
	}
	stuff := func(origin *peer) { go func() { _, _ = origin.Write(burst) }() }

	idle, idleOrigin := open()
	told, toldOrigin := open()       // is sent something once it is gone
	stuffed, stuffedOrigin := open() // … and more than all buffers take
	full, fullOrigin := open()       // has closed its window by then
	ended, endedOrigin := open()     // is sent a FIN
	quiet, quietOrigin := open()     // lives, and says nothing
	slow, slowOrigin := open()       // lives, and does not read
	stuff(fullOrigin)
	stuff(slowOrigin)
	eventually(t, "two windows are closed", func() bool { return f.closedWindows() == 2 })
	closed := time.Now()
	far.cut(idle, told, stuffed, full, ended)
	toldOrigin.send(frameOf(0x81, []byte("are you there?"), false)...)
	stuff(stuffedOrigin)
	if err := endedOrigin.tcp().CloseWrite(); err != nil {
		t.Fatal(err)
	}

	for _, o := range []struct {
		what   string
		origin *peer
		within time.Duration
	}{
		{"idle", idleOrigin, 2 * time.Minute},
		{"told", toldOrigin, 5 * time.Minute},
		{"stuffed", stuffedOrigin, 5 * time.Minute},
		{"full", fullOrigin, 5 * time.Minute},
		{"ended", endedOrigin, 5 * time.Minute},
	} {
		if _, err := io.Copy(io.Discard, o.origin.br); err != nil && !errors.Is(err, syscall.ECONNRESET) { // its write may have met the reset
			t.Fatalf("%s: %v", o.what, err)
		}
		d := time.Since(closed)
		t.Logf("%s: gone after %v", o.what, d.Round(10*time.Millisecond))
		if d > min(o.within, wait) {
			t.Errorf("%s: gone after %v only", o.what, d)
		}
	}
	q := f.cfg.silence
	for time.Since(closed) < q.unacked+5*q.look { // the slow one is let live for longer than the dead ones
		time.Sleep(q.look)
	}
	if n := f.counts().Sessions; n != 2 {
		t.Fatalf("%d sessions are left, want 2", n)
	}
	if n, err := io.CopyN(io.Discard, slow.br, int64(len(burst))); err != nil {
		t.Fatalf("the slow reader got %d bytes of %d: %v", n, len(burst), err)
	}
	hello := frameOf(0x81, []byte("hello"), false)
	for _, p := range [][2]*peer{{quiet, quietOrigin}, {slow, slowOrigin}} {
		p[1].send(hello...)
		p[0].want(hello...)
	}
	eventually(t, "nothing is outstanding, and nobody is looked at", func() bool {
		return f.sum(func(e *engine) int { return len(e.owing) }) == 0
	})
}

// closedWindows is the number of sessions whose client takes no more bytes though there are some.
func (f *fixture) closedWindows() int {
	return f.sum(func(e *engine) (n int) {
		for s := range e.all {
			l := &s.legs[client]
			info, err := unix.GetsockoptTCPInfo(l.fd(), unix.IPPROTO_TCP, unix.TCP_INFO)
			if err == nil && l.pending > 0 && info.Unacked == 0 && info.Notsent_bytes > 0 {
				n++
			}
		}
		return n
	})
}
