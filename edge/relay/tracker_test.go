package relay

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// plain is a plain decoder of RFC 6455 section 5.2 over a whole stream: what the tracker must agree with.
type plain struct {
	frameEnds, messageEnds map[int]bool // offsets at which a frame, a message may start
	closeBegins, closeEnds int          // offsets; -1: none
}

func decode(b []byte) plain {
	p := plain{frameEnds: map[int]bool{0: true}, messageEnds: map[int]bool{0: true}, closeBegins: -1, closeEnds: -1}
	inMessage := false
	for at := 0; at < len(b); {
		fin, op := b[at]&0x80 != 0, b[at]&0x0f
		if op == 8 && p.closeBegins < 0 {
			p.closeBegins = at
		}
		if at+2 > len(b) {
			return p
		}
		n, head := uint64(b[at+1]&0x7f), 2
		switch n {
		case 126:
			if head += 2; at+head <= len(b) {
				n = uint64(binary.BigEndian.Uint16(b[at+2:]))
			}
		case 127:
			if head += 8; at+head <= len(b) {
				n = binary.BigEndian.Uint64(b[at+2:])
			}
		}
		if b[at+1]&0x80 != 0 {
			head += 4
		}
		if op < 8 {
			inMessage = true
		}
		if left := len(b) - at - head; left < 0 || n > uint64(left) {
			return p
		}
		at += head + int(n)
		p.frameEnds[at] = true
		if op < 8 && fin {
			inMessage = false
		}
		if !inMessage {
			p.messageEnds[at] = true
		}
		if op == 8 && p.closeEnds < 0 {
			p.closeEnds = at
		}
	}
	return p
}

// checkTracker feeds b in pieces whose lengths cuts gives, and compares after each byte count reached.
func checkTracker(t *testing.T, b []byte, cuts []byte) {
	t.Helper()
	want := decode(b)
	var tr tracker
	at := 0
	for i := 0; at < len(b); i++ {
		n := len(b) - at
		if len(cuts) > 0 {
			n = min(n, 1+int(cuts[i%len(cuts)]))
		}
		if k := tr.advance(b[at:at+n], stopNever); k != n {
			t.Fatalf("at %d: took %d of %d bytes", at, k, n)
		}
		at += n
		if got := tr.betweenFrames(); got != want.frameEnds[at] {
			t.Fatalf("at %d of %x: between frames %v, want %v", at, b, got, !got)
		}
		if got := tr.betweenMessages(); got != want.messageEnds[at] {
			t.Fatalf("at %d of %x: between messages %v, want %v", at, b, got, !got)
		}
		if got := tr.closing(); got != (want.closeBegins >= 0 && at > want.closeBegins) {
			t.Fatalf("at %d of %x: closing %v", at, b, got)
		}
		if got := tr.closed(); got != (want.closeEnds >= 0 && at >= want.closeEnds) {
			t.Fatalf("at %d of %x: closed %v", at, b, got)
		}
	}
	checkStops(t, b, want, cuts)
}

// checkStops lets the tracker stop where it is asked to, and compares the place.
func checkStops(t *testing.T, b []byte, want plain, cuts []byte) {
	t.Helper()
	start := 0
	if len(cuts) > 0 && len(b) > 0 {
		start = int(cuts[0]) % len(b)
	}
	var tr tracker
	tr.advance(b[:start], stopNever)
	next := start
	for next < len(b) && !want.messageEnds[next] {
		next++
	}
	if n := tr.advance(b[start:], stopMessage); start+n != next {
		t.Fatalf("from %d of %x: stopped at %d, the message ends at %d", start, b, start+n, next)
	}
	var tc tracker
	next = len(b)
	if want.closeEnds >= 0 {
		next = want.closeEnds
	}
	if n := tc.advance(b, stopClosed); n != next {
		t.Fatalf("of %x: stopped at %d, Close ends at %d", b, n, next)
	}
}

// FuzzTracker: the tracker agrees with a plain decoder under any split.
func FuzzTracker(f *testing.F) {
	f.Add([]byte{}, []byte{})
	f.Add(frameOf(0x81, []byte("hi"), true), []byte{0})
	f.Add(append(frameOf(0x01, []byte("he"), false), append(frameOf(0x89, nil, false), frameOf(0x80, []byte("llo"), false)...)...), []byte{2, 0})
	f.Add(append(frameOf(0x82, make([]byte, 300), true), closeFrame(1000, true)...), []byte{7})
	f.Add(append(frameOf(0x82, make([]byte, 70000), false), 0x88, 0), []byte{255, 3})
	f.Add([]byte{0x82, 127, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3}, []byte{0})
	f.Fuzz(checkTracker)
}

func TestTrackerFollowsRandomStreams(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	sizes := []int{0, 1, 125, 126, 127, 128, 65535, 65536, 100000}
	for range 300 {
		var b []byte
		for range rnd.IntN(6) {
			payload := bytes.Repeat([]byte{0x88}, sizes[rnd.IntN(len(sizes))])
			first := byte(rnd.IntN(3)) | byte(rnd.IntN(2))<<7
			if rnd.IntN(3) == 0 {
				first, payload = 0x88|byte(rnd.IntN(3)), payload[:min(len(payload), 125)]
			}
			b = append(b, frameOf(first, payload, rnd.IntN(2) == 0)...)
		}
		cuts := make([]byte, 1+rnd.IntN(5))
		for i := range cuts {
			cuts[i] = byte(rnd.IntN(256))
		}
		checkTracker(t, b, cuts)
		if len(b) < 2000 {
			checkTracker(t, b, []byte{0})
		}
	}
}
