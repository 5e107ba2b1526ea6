package roles_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// fuzzed marks what the tap must not take for an edge's or an operator's own words.
const fuzzed = "Unitgate-Fuzz"

// What a role says in a second, on the average: it is to try out what a message may do,
// not how many bytes the bus carries. Bursts come on top.
const (
	perSecond   = 40
	bytesSecond = 3 << 20
	burstEvery  = 5 * time.Second
	burstOf     = 200
	burstBytes  = 24 << 20

	// A siege is one small message again and again, for longer than a lease lasts.
	siegePause, siegeLasts = 8 * time.Second, 18 * time.Second
	siegeEvery             = time.Millisecond
	siegeBytes             = 2 << 10
)

// mouth is a speaker's connection.
type mouth struct {
	*speaker
	nc *nats.Conn

	said, answers, refusals atomic.Int64

	mu     sync.Mutex
	newest []string // what was said last, for who looks for the cause
	kinds  map[string]int
	broken map[string]int // what the server complained of
}

func (m *mouth) complain(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	text := err.Error()
	if len(text) > 160 {
		text = text[:160]
	}
	m.broken[text]++
}

// connect signs in as a role.
func (l *lab) connect(t testing.TB, url, name, inbox string, complain func(error)) *nats.Conn {
	t.Helper()
	sign, err := nats.NkeyOptionFromSeed(l.keys.Seed(name))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect(url, sign, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond), nats.CustomInboxPrefix(inbox),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { complain(err) }))
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// open makes a speaker able to speak. Answers are counted, and otherwise thrown away.
func (l *lab) open(t testing.TB, url string, r role, seed uint64) *mouth {
	t.Helper()
	m := &mouth{speaker: newSpeaker(l, r, seed), kinds: map[string]int{}, broken: map[string]int{}}
	m.nc = l.connect(t, url, r.name, r.inbox, m.complain)
	sub, err := m.nc.Subscribe(r.inbox+".fuzz", func(a *nats.Msg) {
		m.answers.Add(1)
		if a.Header.Get("Nats-Service-Error-Code") != "" || strings.HasPrefix(a.Header.Get("Status"), "4") {
			m.refusals.Add(1)
		}
	})
	if err == nil {
		err = sub.SetPendingLimits(-1, 64<<20)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// speak says one thing after the other until ctx ends.
func (m *mouth) speak(ctx context.Context) {
	const every = time.Second / perSecond
	pace := time.NewTicker(every)
	defer pace.Stop()
	began, burst, spent := time.Now(), time.Now().Add(burstEvery), int64(0)
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-pace.C:
		}
		if time.Now().After(burst) {
			m.burst(ctx)
			burst, began, spent = time.Now().Add(burstEvery), time.Now(), 0
			continue
		}
		if spent < int64(time.Since(began).Seconds()+1)*bytesSecond {
			one := m.next()
			m.say(one)
			spent += int64(len(one.body))
		}
	}
}

// besiege says one small thing again and again, and another one after a pause.
func (m *mouth) besiege(ctx context.Context, seed uint64) {
	s := newSpeaker(m.lab, m.role, seed^0x5eed)
	tick := time.NewTicker(siegeEvery)
	defer tick.Stop()
	for ctx.Err() == nil {
		one, lease := s.next(), m.role.account == "EDGES" && m.role.edge == "" && s.rng.IntN(2) == 0
		for (!s.worthwhile(one) || lease && !s.needed(one)) && ctx.Err() == nil {
			one = s.next()
		}
		one.kind = "siege"
		for begin := time.Now().Add(siegePause); time.Now().Before(begin.Add(siegeLasts)); {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if time.Now().After(begin) {
				m.say(one)
			}
		}
	}
}

// worthwhile: the control plane or an edge has to look at it, and the bus alone does not. The
// common user of a unit may say everything in the name of its edges, and so may fill their
// places: where that matters each edge has a user of its own. With that one, what this edge
// itself says and asks is kept from being heard, and nobody else's: it may even lag, and
// serve for a moment who was evicted elsewhere.
func (s *speaker) worthwhile(m message) bool {
	own := "unitgate.edge." + namespace + "." + s.role.unit + "." + s.role.edge
	if s.role.edge != "" && slices.Contains([]string{own + ".lease", own + ".report", own + ".read"}, m.subject) {
		return false
	}
	if s.role.account == "EDGES" && s.role.edge == "" && strings.HasPrefix(m.subject, "unitgate.edge."+namespace+"."+s.role.unit+"."+s.role.unit+"-") {
		return false
	}
	return len(m.body) <= siegeBytes && m.header.Get("X-Large") == "" && strings.HasPrefix(m.subject, "unitgate.")
}

// needed: it comes where an edge that is not the role's asks for its lease.
func (s *speaker) needed(m message) bool {
	t := strings.Split(m.subject, ".")
	return len(t) == 6 && t[5] == "lease" && t[4] != s.stolen && s.lab.members[t[4]] != ""
}

// burst says many things at once: one message again and again, or what comes.
func (m *mouth) burst(ctx context.Context) {
	next, one, sum := m.next, m.next(), 0
	if m.rng.IntN(2) == 0 {
		next = func() message { return one }
	}
	for range burstOf {
		said := next()
		if sum += len(said.body); sum > burstBytes || ctx.Err() != nil {
			break
		}
		said.kind = "burst"
		m.say(said)
	}
	_ = m.nc.FlushTimeout(10 * time.Second)
}

func (m *mouth) say(what message) {
	out := &nats.Msg{Subject: what.subject, Reply: what.reply, Header: nats.Header{}, Data: what.body}
	for k, v := range what.header {
		out.Header[k] = v
	}
	if strings.HasPrefix(what.subject, "unitgate.") {
		out.Header.Set(fuzzed, "1")
	}
	if err := m.nc.PublishMsg(out); err != nil {
		m.complain(err)
	}
	m.said.Add(1)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kinds[what.kind]++
	if what.kind == "siege" && m.kinds["siege"]%1000 > 1 {
		return
	}
	if m.newest = append(m.newest, fmt.Sprintf("%s %s", time.Now().Format("15:04:05.000"), what)); len(m.newest) > 200 {
		m.newest = m.newest[100:]
	}
}

// tell says what came of it, and after a failure also what was said last.
func (m *mouth) tell(t *testing.T) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t.Logf("%-12s said %d %v, got %d answers, %d of them refusals; the bus complained %v", m.role.name, m.said.Load(), m.kinds, m.answers.Load(), m.refusals.Load(), m.broken)
	if t.Failed() {
		t.Logf("%s said last:\n%s", m.role.name, strings.Join(m.newest[max(0, len(m.newest)-40):], "\n"))
	}
}
