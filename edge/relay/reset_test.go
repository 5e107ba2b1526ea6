package relay

import (
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// aborted is true once a connection's end knows of a RST, whether or not it reads.
func (p *peer) aborted() bool {
	rc, err := p.tcp().SyscallConn()
	if err != nil {
		return true
	}
	fds := [1]unix.PollFd{}
	_ = rc.Control(func(fd uintptr) {
		fds[0].Fd = int32(fd)
		_, err = unix.Poll(fds[:], 0)
	})
	return err == nil && fds[0].Revents&(unix.POLLERR|unix.POLLHUP) != 0
}

// "RST from either side (the other side learns it within 1 s)", whatever the two were doing.
func TestResetIsLearntWithinASecond(t *testing.T) {
	flood := func(f *fixture, from *peer) {
		go func() { _, _ = io.Copy(from.Conn, endless{}) }()
		f.waitPaused()
	}
	for _, c := range []struct {
		name    string
		prepare func(f *fixture, one, other *peer)
	}{
		{"idle", func(*fixture, *peer, *peer) {}},
		{"in the middle of a frame", func(_ *fixture, one, other *peer) {
			one.send(frameOf(0x81, make([]byte, 100), true)[:50]...)
			other.read(50)
		}},
		{"while it floods a reader that is too slow", func(f *fixture, one, _ *peer) { flood(f, one) }},
		{"while it does not read a flood", func(f *fixture, _, other *peer) { flood(f, other) }},
		{"after its end, while it is still sent to", func(_ *fixture, one, other *peer) {
			_ = one.tcp().CloseWrite()
			other.wantEnd()
			other.send([]byte("a word")...)
			one.want([]byte("a word")...)
		}},
		{"after its end, while it does not read a flood", func(f *fixture, one, other *peer) {
			_ = one.tcp().CloseWrite()
			other.wantEnd()
			flood(f, other)
		}},
	} {
		for _, who := range []string{"client", "origin"} {
			t.Run(c.name+"/"+who, func(t *testing.T) {
				b := newBackend(t)
				f := start(t, Config{Engines: 1}, b.addr())
				f.own()
				// A machine may stall for a second; it does not three times.
				for range 3 {
					cl, o := f.open(b, "7")
					one, other := cl, o
					if who == "origin" {
						one, other = o, cl
					}
					c.prepare(f, one, other)
					_ = one.tcp().SetLinger(0)
					began := time.Now()
					_ = one.Close()
					eventually(t, "the other side learns it", other.aborted)
					took := time.Since(began)
					_ = other.Close()
					f.waitCounts("the session ends", func(n Counts) bool { return n.Sessions == 0 })
					if took < time.Second {
						return
					}
					t.Logf("learnt after %v", took)
				}
				t.Error("it took longer than 1 s, three times")
			})
		}
	}
}
