package relay

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
)

// stream is an endless sequence of frames of one direction of one session, whole messages and fragments with control
// frames between them, that both ends know.
type stream struct{ period []byte }

func newStream(seed uint64, mask bool) stream {
	rnd := rand.New(rand.NewPCG(seed, 0))
	var b []byte
	for len(b) < 200_000 {
		payload := make([]byte, rnd.IntN(1<<(4+rnd.IntN(12))))
		for i := range payload {
			payload[i] = byte(rnd.Uint32())
		}
		b = append(b, frameOf(0x02, payload, mask)...)
		b = append(b, frameOf(0x89, []byte(fmt.Sprint(rnd.Uint64())), mask)...)
		b = append(b, frameOf(0x80, payload[:len(payload)/2], mask)...)
	}
	return stream{b}
}

// write writes until stop is closed, and ends the stream. It returns how much that was.
func (s stream) write(p *peer, stop <-chan struct{}, moved *atomic.Int64) (n int, err error) {
	for {
		select {
		case <-stop:
			return n, p.tcp().CloseWrite()
		default:
		}
		rest := s.period[n%len(s.period):]
		k, err := p.Write(rest[:min(len(rest), 10_007)])
		if n += k; err != nil {
			return n, err
		}
		moved.Add(int64(k))
	}
}

// check reads to the end of the stream and returns how much that was.
func (s stream) check(r io.Reader) (n int, err error) {
	b := make([]byte, 32<<10)
	for {
		k, err := r.Read(b[:min(len(b), len(s.period)-n%len(s.period))])
		if !bytes.Equal(b[:k], s.period[n%len(s.period):][:k]) {
			return n, fmt.Errorf("other bytes behind offset %d", n)
		}
		if n += k; err == io.EOF {
			return n, nil
		} else if err != nil {
			return n, err
		}
	}
}

// "Survivors' streams byte-identical while it happens": both directions of the sessions that stay stream as fast as they
// can while others are fenced, let go again, evicted at a rate and all at once, and committed.
func TestSurvivorsStreamsAreIdentical(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	const survivors, victims = 8, 200
	for i := range victims {
		c, o := f.open(b, id(50+i%50))
		go leaveWhenTold(c, o)
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	var moved atomic.Int64
	for i := range survivors {
		c, o := f.open(b, id(i)) // the same two connections from here to the end
		for k, way := range [][2]*peer{{c, o}, {o, c}} {
			s := newStream(uint64(2*i+k), k == 0)
			var sent int
			done := make(chan struct{})
			wg.Go(func() {
				defer close(done)
				var err error
				if sent, err = s.write(way[0], stop, &moved); err != nil {
					t.Errorf("survivor %d: %v", i, err)
				}
			})
			wg.Go(func() {
				got, err := s.check(way[1].br)
				if <-done; err != nil || got != sent {
					t.Errorf("survivor %d: %d of %d bytes arrived and %v", i, got, sent, err)
				}
			})
		}
	}
	streaming := func() {
		base := moved.Load()
		eventually(t, "the survivors stream", func() bool { return moved.Load() > base+5<<20 })
	}
	streaming()
	f.fence(50)
	f.Evict(testType, 300)
	streaming()
	f.own()
	f.fence(50)
	f.Evict(testType, 0)
	f.waitDrained()
	f.commit(50)
	streaming()
	if n := f.counts(); n.Evicted != victims || n.Sessions != survivors {
		t.Errorf("%+v", n)
	}
	close(stop)
	wg.Wait()
	f.waitCounts("the survivors end", func(n Counts) bool { return n.Sessions == 0 })
}

// leaveWhenTold is a client that answers its Close, and its origin, which ends with it.
func leaveWhenTold(c, o *peer) {
	if first, _, err := readFrame(c.br); err == nil && first == 0x88 {
		_, _ = c.Write(closeFrame(1012, true))
	}
	_, _ = io.Copy(io.Discard, c.br)
	_ = c.Close()
	_, _ = io.Copy(io.Discard, o.br)
	_ = o.Close()
}
