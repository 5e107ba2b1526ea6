package relay

import (
	"strings"
	"testing"

	"github.com/unitgate/unitgate/edge/limit"
	"github.com/unitgate/unitgate/events/routing"
)

// refusals are how many handshakes have ended with a code.
func (f *fixture) refusals(code string) (n int64) {
	for _, h := range f.Readings().Handshakes {
		if h.Verdict == code {
			n += h.N
		}
	}
	return n
}

// During a wave one address has as many handshakes as it likes for a key that moves. A real user of a moved key, behind
// it, is held all the same, and let in by the commit: the newest of the address that has the most give way, and are told.
func TestHeldPlacesAreShared(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{MaxHeld: 100}, b.addr())
	arriving := func(phase routing.Phase) {
		from, to := rules(t, 50), rules(t, 100)
		f.install(routing.CompileCutover(from, to, []routing.Wave{{Keys: routing.Compare(from, to).Split(1)[0], Phase: phase}}))
	}
	arriving(routing.Fenced)
	var attack []*peer
	refused := 0
	for range 120 {
		attack = append(attack, f.from("127.0.0.1", requestFor("60"), false, nil))
	}
	eventually(t, "the places are taken", func() bool { return f.counts().Held == 100 && f.refusals("too_many_held") == 20 })
	var users []*peer
	for i := range 40 {
		users = append(users, f.from("127.0.0."+id(10+i), requestFor("6"+id(i%10)), false, nil))
	}
	eventually(t, "those of the busiest have given way", func() bool {
		return f.counts().Held == 100 && f.refusals("too_many_held_from_address") == 40
	})
	arriving(routing.Committed)
	for range 100 {
		o, _ := b.next()
		o.send([]byte(switching)...)
	}
	for i, p := range users {
		if code, _, _ := p.status(); code != 101 {
			t.Errorf("real user %d: %d", i, code)
		}
	}
	for _, p := range attack {
		if code, resp, _ := p.status(); code == 503 && jittered(resp.Header.Get("Retry-After")) {
			refused++
		}
	}
	if refused != 60 {
		t.Errorf("%d of the attack were refused, want 60", refused)
	}
}

// Long heads take several places, so that what is kept has a bound in sum, with bytes behind the head that wait for the
// tunnel, too. And an address that fills the capacity with held handshakes gives way as well.
func TestHeldBytesAndCapacityAreShared(t *testing.T) {
	f := start(t, Config{MaxHeld: 12, Capacity: 8})
	f.move(50, routing.Fenced)
	long := strings.Replace(requestFor("60"), "/chat", "/"+strings.Repeat("x", 5000), 1) + strings.Repeat("y", 2000)
	for range 8 {
		f.from("127.0.0.1", long, false, nil)
	}
	f.waitCounts("four of three places each", func(n Counts) bool { return n.Held == 4 })
	eventually(t, "the others are refused, and count no longer", func() bool { return f.Readings().Admitted == 4 })
	// One after the other: a client that gives way leaves the capacity a moment later, and one that comes in between has
	// another one give way.
	for i := range 8 {
		f.from("127.0.0.2", requestFor("61"), false, nil)
		eventually(t, "it is held or refused, and who gave way has left", func() bool {
			decided := f.refusals("at_capacity") + f.refusals("too_many_held") + f.refusals("too_many_held_from_address") + int64(f.counts().Held)
			f.left() // every poller has done by then what was posted before
			return decided == int64(8+i+1) && int64(f.counts().Held) == f.Readings().Admitted
		})
	}
	// Six places each then: two long ones and six short ones, which is all that the capacity has.
	f.waitCounts("they are held", func(n Counts) bool { return n.Held == 8 && f.places.Used() == 12 })
	last := f.from("127.0.0.3", requestFor("62"), false, nil)
	f.waitCounts("one gave way for the last one", func(n Counts) bool { return n.Held == 8 && f.places.Used() <= 12 })
	eventually(t, "and has left the capacity", func() bool { return f.Readings().Admitted == 8 })
	f.own()
	if code, _, _ := last.status(); code != 502 { // there is no origin; it was let go, and not refused
		t.Errorf("the last one: %d", code)
	}
}

// What is no session is bounded for each address, also over TLS: with as much as they may have, silent, half said or
// answered and not read, one address's connections leave the others alone. Its own sessions do not count.
func TestHandshakesPerAddress(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{Limits: limit.Limits{HandshakesPerAddress: 6}}, b.addr())
	f.install(routing.Compile(rules(t, 50)))
	for i := range 20 { // an office
		f.open(b, id(i))
	}
	for range 2 {
		f.connect("")
		f.connect("GET / HTTP")
		f.stuck(longRequest("77"))
	}
	eventually(t, "all have come", func() bool { return f.Clients().Connections == 26 })
	p := f.connect(requestFor("7"))
	if code, resp, _ := p.status(); code != 429 || !jittered(resp.Header.Get("Retry-After")) {
		t.Errorf("%d, want 429", code)
	}
	other := f.from("127.0.0.2", requestFor("7"), false, nil)
	o, _ := b.next()
	o.send([]byte(switching)...)
	if code, _, _ := other.status(); code != 101 {
		t.Errorf("another address: %d", code)
	}
	if n := f.Clients().Refused; n.HandshakesPerAddress != 1 {
		t.Errorf("%+v", n)
	}
}

// Held handshakes are bounded by their places and not by this: everybody in a large office may wait for the commit.
func TestHeldAreNoHandshakesOfTheAddress(t *testing.T) {
	f := start(t, Config{Limits: limit.Limits{HandshakesPerAddress: 4}})
	f.move(50, routing.Fenced)
	for i := range 20 {
		f.connect(requestFor("6" + id(i%10)))
		f.waitCounts("it is held", func(n Counts) bool { return n.Held == i+1 })
	}
}
