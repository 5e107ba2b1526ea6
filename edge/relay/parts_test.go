package relay

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// atOnce and late draw the ends of every interval.
func atOnce(time.Duration) time.Duration        { return 0 }
func late(interval time.Duration) time.Duration { return interval - 1 }

func TestPacerSpacesEvenlyWithoutABurst(t *testing.T) {
	const rate = 50
	const interval = time.Second / rate
	for name, within := range map[string]func(time.Duration) time.Duration{
		"early": atOnce, "late": late, "at random": rand.N[time.Duration],
	} {
		p := newPacer(rate, 0, within)
		total := 0
		var last time.Duration
		gaps := map[time.Duration]bool{}
		for now := time.Duration(0); now <= 2*time.Second; now += 100 * time.Microsecond {
			n := p.take(now)
			if n > 1 {
				t.Fatalf("%s: at %v %d events at once", name, now, n)
			}
			if n == 1 {
				if now-last > 2*interval || total == 0 && now < interval/2 {
					t.Fatalf("%s: at %v an event, %v after the last", name, now, now-last)
				}
				gaps[now-last], last = true, now
			}
			// Never more than one interval off the even course.
			if total += n; time.Duration(total)*interval > now+interval/2 || time.Duration(total+2)*interval <= now+interval/2 {
				t.Fatalf("%s: at %v %d events", name, now, total)
			}
		}
		if name == "at random" && len(gaps) < rate/2 {
			t.Errorf("there are only %d different gaps", len(gaps))
		}
	}
}

func TestPacerKeepsItsRateOnACoarseTimer(t *testing.T) {
	for _, within := range []func(time.Duration) time.Duration{atOnce, late, rand.N[time.Duration]} {
		p := newPacer(10_000, 0, within)
		total := 0
		for now := time.Duration(0); now <= time.Second; now += 5 * time.Millisecond {
			n := p.take(now)
			if total += n; n > 52 {
				t.Fatalf("at %v: %d events at once", now, n)
			}
		}
		if total < 9_990 || total > 10_001 {
			t.Errorf("%d events in a second, want 10000", total)
		}
	}
}

func TestPacerDoesNotCatchUpAfterAStall(t *testing.T) {
	p := newPacer(1000, 0, atOnce)
	if n := p.take(10 * time.Second); n > 1 {
		t.Errorf("%d events after a stall, want 1", n)
	}
	if n := p.take(10*time.Second + 5*time.Millisecond); n != 5 {
		t.Errorf("%d events in the next 5 ms, want 5", n)
	}
	slow := newPacer(1, 0, atOnce) // lateness below its interval
	if n := slow.take(1400 * time.Millisecond); n != 1 || slow.next != 1500*time.Millisecond {
		t.Errorf("%d events, next at %v", n, slow.next)
	}
}

func TestPacerOfARateBeyondTheClock(t *testing.T) {
	p := newPacer(1<<40, 0, rand.N[time.Duration])
	for now := time.Duration(0); now < time.Second; now += catchUp {
		if n := p.take(now); n > int(catchUp)+2 {
			t.Fatalf("%d events", n)
		}
	}
}

func TestDeadlinesPassInOrder(t *testing.T) {
	q, other := fifo{timeout: 10}, fifo{timeout: 5}
	var d [6]deadline
	for i := range d {
		q.start(&d[i], time.Duration(i))
	}
	d[0].stop()           // the first
	d[3].stop()           // one in between
	d[5].stop()           // the last
	d[5].stop()           // again
	q.start(&d[1], 100)   // anew, at the end
	other.start(&d[2], 0) // elsewhere
	q.start(&d[0], 3)     // late: it started before the last
	if got := q.expired(12); got != nil {
		t.Fatalf("at 12: %v", got)
	}
	for _, want := range []*deadline{&d[0], &d[4], &d[1]} {
		if got := q.expired(1000); got != want {
			t.Fatalf("got %p, want %p", got, want)
		}
	}
	if q.expired(1000) != nil || q.first != nil || q.last != nil {
		t.Error("something is left")
	}
	if other.expired(4) != nil || other.expired(5) != &d[2] {
		t.Error("the other queue")
	}
}

func TestCloseFrames(t *testing.T) {
	if got := appendClose(nil, 1012, "moved to center"); !bytes.Equal(got, append([]byte{0x88, 17, 3, 0xf4}, "moved to center"...)) {
		t.Errorf("%x", got)
	}
	long := appendClose(nil, 1012, strings.Repeat("杭", 50)) // 3 bytes each: 123 bytes are 41 of them
	if text := long[4:]; len(text) != 123 || !utf8.Valid(text) || int(long[1]) != 125 {
		t.Errorf("%d bytes, length field %d", len(text), long[1])
	}
	if text := appendClose(nil, 1012, "x"+strings.Repeat("杭", 50))[4:]; len(text) != 121 || !utf8.Valid(text) {
		t.Errorf("cut within a rune: %d bytes", len(text))
	}
	for why, want := range map[closeReason]string{
		becauseMoved: "1012 moved to unbj", becauseOperator: "1012 evicted by operator", becauseRemoved: "1001 domain removed", becauseShutdown: "1001 edge is shutting down",
	} {
		code, text := closeOf(why, 0, "unbj")
		if got := id(int(code)) + " " + text; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	var tr tracker
	if tr.advance(maskedGoingAway[:], stopClosed); !tr.closed() {
		t.Error("1001 for origins is no whole Close frame")
	}
}

func TestParseReply(t *testing.T) {
	for head, want := range map[string]reply{
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n": {status: 101, body: body{}},
		"HTTP/1.0 404\nA: b\n\n":                       {status: 404, body: body{}},
		"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n": {status: 200, body: body{kind: counted, left: 5}},
		"HTTP/1.1 204 No Content\r\n\r\n":              {status: 204, body: body{kind: counted}},
		"HTTP/1.1 421 No\r\nunitgate-refused: not_owner\r\nUnitgate-Sequence: 12\r\nContent-Length: 0\r\n\r\n": {status: 421, body: body{kind: counted}, refused: "not_owner", sequence: 12},
		"HTTP/1.1 403 No\r\nContent-Length: 7\r\nTransfer-Encoding: gzip, chunked\r\nX: a\r\n b\r\n\r\n":       {status: 403, body: body{kind: chunked}, coded: true},
		"HTTP/1.1 403 No\r\nTransfer-Encoding: gzip\r\nContent-Length: 7\r\n\r\n":                              {status: 403, coded: true},
		"HTTP/1.1 304 No\r\n nothing\r\nTransfer-Encoding: chunked\r\nETag: 7\r\n\r\n":                         {status: 304, body: body{kind: counted}},
	} {
		if got, ok := parseReply([]byte(head)); !ok || got != want {
			t.Errorf("%q: got %+v %v, want %+v", head, got, ok, want)
		}
	}
	for _, head := range []string{
		"\r\n", "HTTP/2 200 OK\r\n\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "SSH-2.0-x\r\n\r\n",
		"HTTP/1.1 101 x\r\nno colon\r\n\r\n", "HTTP/1.1 101 x\r\n: y\r\n\r\n", "HTTP/1.1 101 x\r\na b: y\r\n\r\n",
		"HTTP/1.1 200 x\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 x\r\nContent-Length: many\r\n\r\n",
	} {
		if got, ok := parseReply([]byte(head)); ok {
			t.Errorf("%q: got %+v", head, got)
		}
	}
}

// An answer's fields that are about the connection to the origin end there; what frames its body does not.
func TestAnswersArePassedOn(t *testing.T) {
	for _, c := range []struct{ head, want string }{
		{
			"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest a\r\nConnection: keep-alive, x-Hop\r\nKeep-Alive: timeout=5\r\nX-Hop: 1\r\nX-End: 2\r\n" +
				"Proxy-Connection: keep-alive\r\nContent-Length: 2\r\n\r\n",
			"HTTP/1.1 401 No\r\nWWW-Authenticate: Digest a\r\nX-End: 2\r\nContent-Length: 2\r\nConnection: close\r\n\r\n",
		},
		{
			"HTTP/1.1 403\nconnection: a,\n\tb\nA: 1\nB: 2\nC: 3\n 4\nTransfer-Encoding: chunked\nContent-Length: 9\nConnection: transfer-encoding\n\n",
			"HTTP/1.1 403\r\nC: 3 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
		},
		{
			"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
			"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: close, Upgrade\r\n\r\n",
		},
		{"HTTP/1.1 404 No\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "HTTP/1.1 404 No\r\nConnection: close\r\n\r\n"},
		{"HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\n\r\n", "HTTP/1.1 304 No\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"},
		{"HTTP/1.0 500 No\r\nUnitgate-Refused: x\r\n y\r\nUnitgate-Time: 7\r\n\r\n", "HTTP/1.0 500 No\r\nConnection: close\r\n\r\n"},
	} {
		r, ok := parseReply([]byte(c.head))
		if got := r.passedOn([]byte(c.head), false); !ok || string(got) != c.want {
			t.Errorf("%q: %q %v, want %q", c.head, got, ok, c.want)
		}
		again, ok := parseReply([]byte(c.want))
		if got := again.passedOn([]byte(c.want), true); !ok || string(got) != c.want || again.body != r.body {
			t.Errorf("%q by another edge: %q, %v", c.want, got, ok)
		}
	}
}

func TestBodyEnds(t *testing.T) {
	for _, c := range []struct {
		body body
		in   string
		end  int // -1: none
	}{
		{body{kind: untilEOF}, "abc", -1},
		{body{kind: counted, left: 3}, "abcdef", 3},
		{body{kind: counted}, "x", 0},
		{body{kind: chunked}, "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\nrest", 32},
		{body{kind: chunked}, "0\r\nTrailer: a\r\nB: c\r\n\r\nrest", 23},
		{body{kind: chunked}, "3\r\nab", -1},
		{body{kind: chunked}, "zz", 1},
		{body{kind: chunked}, "fffffffffffffffffff", 16},
	} {
		for _, step := range []int{1, 2, len(c.in)} {
			d, at, ended := c.body, 0, -1
			for at < len(c.in) && ended < 0 {
				n, done := d.take([]byte(c.in[at:min(at+step, len(c.in))]))
				if at += n; done {
					ended = at
				}
			}
			if ended != c.end {
				t.Errorf("%q by %d: ends at %d, want %d", c.in, step, ended, c.end)
			}
		}
	}
}
