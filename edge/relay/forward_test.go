package relay

import (
	"regexp"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

// with is a user's handshake with more header lines.
func with(routerID string, lines ...string) string {
	return strings.Replace(requestFor(routerID), "\r\n\r\n", "\r\n"+strings.Join(lines, "\r\n")+"\r\n\r\n", 1)
}

func fieldsOf(head, name string) (values []string) {
	for _, m := range regexp.MustCompile(`(?im)^`+name+`: *(.*?)\r$`).FindAllStringSubmatch(head, -1) {
		values = append(values, m[1])
	}
	return values
}

// leave ends a handshake that its origin has not answered: had the origin gone first, another one would be tried.
func (f *fixture) leave(client, origin *peer) {
	f.t.Helper()
	_ = client.Close()
	origin.wantEnd()
	_ = origin.Close() // else the relay waits some time for it
	eventually(f.t, "nothing is left", func() bool { return f.sum(func(e *engine) int { return len(e.all) }) == 0 })
}

// What the origin is told: one X-Request-Id, the client's or a fresh one, the same for every origin that is tried; and
// the unit type. Nothing that only edges may say comes from a client.
func TestOriginIsToldOnce(t *testing.T) {
	b, silent := newBackend(t), newBackend(t)
	f := start(t, Config{Engines: 1}, b.addr())
	f.own()
	seen := map[string]bool{}
	for range 3 {
		c := f.connect(with("7", "unitgate-epoch: 1", "Unitgate_Hop: 1", "X-Request-Id: not good"))
		o, head := b.next()
		f.leave(c, o)
		ids := fieldsOf(head, "x-request-id")
		if len(ids) != 1 || !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(ids[0]) || seen[ids[0]] {
			t.Errorf("made: %q", ids)
		}
		seen[ids[0]] = true
		if types := fieldsOf(head, "unittype"); len(types) != 1 || types[0] != testType {
			t.Errorf("unit types %q", types)
		}
		if strings.Contains(strings.ToLower(head), "unitgate") {
			t.Errorf("forged: %q", head)
		}
	}
	c := f.connect(with("7", "x-request-ID: mine-1", "unitType: "+testType, "unittype: "+testType))
	o, head := b.next()
	f.leave(c, o)
	if ids := fieldsOf(head, "x-request-id"); len(ids) != 1 || ids[0] != "mine-1" {
		t.Errorf("kept: %q", ids)
	}
	if types := fieldsOf(head, "unittype"); len(types) != 1 {
		t.Errorf("unit types %q", types)
	}

	f.origins = []string{silent.addr(), b.addr()}
	f.own()
	c = f.connect(requestFor("7"))
	another := b
	var first *peer
	select { // whichever comes first
	case first = <-silent.conns:
	case first = <-b.conns:
		another = silent
	}
	head1 := first.head()
	_ = first.Close()
	o, head2 := another.next()
	f.leave(c, o)
	if head1 != head2 {
		t.Errorf("the first origin got %q, the second one %q", head1, head2)
	}
}

// A question for a location is held with the handshakes of its key, and answered when the move is decided.
func TestLocateIsHeld(t *testing.T) {
	const locate = "GET /.unitgate/locate?routerId=60 HTTP/1.1\r\nHost: x\r\n\r\n"
	f := start(t, Config{MaxHeld: 1})
	f.move(50, routing.Fenced)
	p := f.connect(locate)
	f.waitCounts("held", func(n Counts) bool { return n.Held == 1 })
	code, resp, _ := f.connect(locate).status()
	if code != 503 || resp.Header.Get("Access-Control-Allow-Origin") != "*" || !jittered(resp.Header.Get("Retry-After")) {
		t.Errorf("one too many: %d %v", code, resp.Header)
	}
	f.move(50, routing.Committed)
	if code, _, body := p.status(); code != 200 || body != `{"unit":"there","url":"ws://there.example/","ruleVersion":0}`+"\n" {
		t.Errorf("%d %q", code, body)
	}
}
