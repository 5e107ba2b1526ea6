package relay

import (
	"net/http"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/edge/limit"
	"github.com/unitgate/unitgate/events/routing"
)

// withLong is a user's handshake with a cookie of so many bytes, in front of the routerId.
func withLong(routerID string, n int) string {
	return strings.Replace(requestFor(routerID), "routerId:", "Cookie: c="+strings.Repeat("c", n)+"\r\nrouterId:", 1)
}

// Clients send two cookies of 4 KB, and Kubernetes' bearer tokens as subprotocols. The origin gets all of it, however it came.
func TestLongHeadsPass(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	bearer := "base64url.bearer.authorization.k8s.io." + strings.Repeat("t", 4096)
	request := withLong("7", 8192)
	request = strings.Replace(request, "\r\n\r\n", "\r\nSec-WebSocket-Protocol: "+bearer+", v4.channel.k8s.io\r\n\r\n", 1)
	for _, piece := range []int{len(request), 1460, 100} {
		p := f.connect(request[:10])
		for rest := request[10:]; len(rest) > 0; {
			n := min(len(rest), piece)
			p.send([]byte(rest[:n])...)
			rest = rest[n:]
		}
		p.send([]byte("glued")...)
		o, head := b.next()
		if !strings.Contains(head, strings.Repeat("c", 8192)) || !strings.Contains(head, bearer+", v4.channel.k8s.io\r\n") {
			t.Errorf("in pieces of %d: the origin got %d bytes of %d", piece, len(head), len(request))
		}
		o.send([]byte(switching)...)
		p.want([]byte(switching)...)
		o.want([]byte("glued")...)
	}
	if code, _, _ := f.connect(withLong("7", handshake.MaxHead)).status(); code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("longer than it may be: %d", code)
	}
}

// An edge may be told to take less, or more.
func TestMaxHead(t *testing.T) {
	b := newBackend(t)
	for _, most := range []int{handshake.SmallestHead, handshake.LargestHead} {
		f := start(t, Config{MaxHead: most}, b.addr())
		f.own()
		request := withLong("7", most-len(withLong("7", 0)))
		p := f.connect(request)
		o, head := b.next()
		if want := strings.Repeat("c", most-len(withLong("7", 0))); !strings.Contains(head, want) {
			t.Errorf("of %d bytes the origin got %d", most, len(head))
		}
		o.send([]byte(switching)...)
		p.want([]byte(switching)...)
		if code, _, _ := f.connect(strings.Replace(request, "c=", "c=c", 1)).status(); code != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("one byte more than %d: %d", most, code)
		}
	}
}

// An origin that takes less says so itself, and its client learns it.
func TestOriginsOwn431(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	p := f.connect(withLong("7", 20_000))
	o, _ := b.next()
	o.send([]byte("HTTP/1.1 431 Request Header Fields Too Large\r\nServer: theirs\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")...)
	if code, resp, _ := p.status(); code != 431 || resp.Header.Get("Server") != "theirs" {
		t.Errorf("%d %v", code, resp.Header)
	}
}

// What long heads take is bounded in sum, in each state in which a handshake may stay. The address that has the most gives
// way, and is told; one with a single user gets in; handshakes with short heads are not concerned.
func TestLongHeadsAreBoundedInSum(t *testing.T) {
	const each = 24_000
	for name, c := range map[string]struct {
		phase   routing.Phase
		request string
	}{
		"incomplete":            {routing.Committed, withLong("6", each)[:each]},
		"held":                  {routing.Fenced, withLong("60", each)},
		"waiting for an origin": {routing.Committed, withLong("6", each)},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBackend(t)
			f := start(t, Config{LongHeads: 30 * limit.PlaceBytes, MaxHeld: 1000}, b.addr())
			f.move(50, c.phase)
			told := func() int64 {
				return f.refusals("too_many_long_heads") + f.refusals("too_many_long_heads_from_address")
			}
			var attack []*peer
			for range 12 {
				attack = append(attack, f.from("127.0.0.1", c.request, false, nil))
			}
			eventually(t, "some are refused, the others keep what they have", func() bool {
				return told() >= 7 && f.longHeads.Used() > 20 && f.longHeads.Used() <= 30
			})
			before := f.refusals("too_many_long_heads_from_address")
			user := f.from("127.0.0.2", withLong("6", each), false, nil)
			eventually(t, "another address has one of them give way", func() bool {
				return f.refusals("too_many_long_heads_from_address") > before && f.longHeads.Used() <= 30
			})
			short := f.from("127.0.0.1", requestFor("7"), false, nil)
			stop := make(chan struct{})
			t.Cleanup(func() { close(stop) })
			go func() {
				for {
					select {
					case o := <-b.conns:
						_, _ = o.Write([]byte(switching)) // some have been given up
					case <-stop:
						return
					}
				}
			}()
			for who, p := range map[string]*peer{"a user of another address": user, "one with a short head": short} {
				if code, _, _ := p.status(); code != 101 {
					t.Errorf("%s: %d", who, code)
				}
			}
			n := int64(0)
			for _, p := range attack {
				if c.phase == routing.Committed && name == "incomplete" {
					_ = p.tcp().CloseWrite()
				}
			}
			f.own()
			for _, p := range attack {
				resp, err := http.ReadResponse(p.br, nil)
				if err == nil && resp.StatusCode == 503 && jittered(resp.Header.Get("Retry-After")) {
					n++
				}
			}
			if n != told() {
				t.Errorf("%d were told, %d counted", n, told())
			}
		})
	}
}
