package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

// identity is what an edge signs by: its key in the journal, and the public key that a
// receiver verifies. The machines are told who signed, so that nothing is signed here.
type identity struct{ key, signer string }

var identities sync.Map // by number; the same in all worlds, because making one takes a while

// identityOf is that of the n-th edge of a world; the forger's are negative.
func identityOf(n int) identity {
	if id, ok := identities.Load(n); ok {
		return id.(identity)
	}
	for i := 0; ; i++ {
		seed := sha256.Sum256(fmt.Appendf(nil, "edge %d, try %d", n, i))
		signer, agree, err := events.DeriveKeys(seed[:])
		if err != nil {
			continue
		}
		id := identity{hex.EncodeToString(agree.PublicKey().Bytes()), hex.EncodeToString(signer.Public().(ed25519.PublicKey))}
		identities.Store(n, id)
		return id
	}
}

// officeKey is the key of a driver's process.
func officeKey(incarnation string) string {
	sum := sha256.Sum256([]byte(incarnation))
	return hex.EncodeToString(sum[:])
}

// forger is a process of another unit that hears everything and can say everything, but has no
// other key than its own. It speaks in the names of edges and of the office, and sends what
// it has heard once more. While it does, every guarantee holds.
type forger struct {
	w     *world
	rnd   *rand.Rand // of its own: seeds in which it changes nothing stay what they were
	heard []overheard
	given []cutover.AnswerLease
	by    []string // which signed given
}

// overheard is a message of an edge, with the key that signed it.
type overheard struct {
	ask    *events.LeaseRequest // nil: a report
	report events.EdgeReport
	signer string
}

const remembers = 64 // messages of each kind

func newForger(w *world) *forger {
	return &forger{w: w, rnd: rand.New(rand.NewPCG(w.seed, 0xf04e))}
}

// begin has it act in half of the seeds, until the calm.
func (f *forger) begin() {
	if f.rnd.IntN(2) == 0 {
		return
	}
	var again func()
	again = func() {
		if f.w.faulty() {
			f.act()
			f.w.after(time.Duration(f.rnd.Int64N(int64(1500*time.Millisecond))), again)
		}
	}
	f.w.after(time.Second, again)
}

func (f *forger) overhear(m overheard) {
	if len(f.heard) == remembers {
		f.heard = f.heard[1:]
	}
	f.heard = append(f.heard, m)
}

func (f *forger) overhearAnswer(a cutover.AnswerLease, signer string) {
	if len(f.given) == remembers {
		f.given, f.by = f.given[1:], f.by[1:]
	}
	f.given, f.by = append(f.given, a), append(f.by, signer)
}

// key is one that it can sign with, or none.
func (f *forger) key() string {
	return []string{"", identityOf(-1).signer, officeKey("forger")}[f.rnd.IntN(3)]
}

func (f *forger) act() {
	if len(f.heard) == 0 {
		return
	}
	m := f.heard[f.rnd.IntN(len(f.heard))]
	f.w.result.Forged++
	switch f.rnd.IntN(7) {
	case 0:
		f.tell(overheard{report: f.drained(m.report), signer: f.key()})
	case 1:
		r := f.drained(m.report)
		f.tell(overheard{ask: &events.LeaseRequest{EdgeReport: r, Nonce: 1 << 40, Held: f.w.plan.lease}, report: r, signer: f.key()})
	case 2:
		f.tell(m) // once more
	case 3:
		f.grant(m)
	case 4:
		if len(f.given) > 0 {
			i := f.rnd.IntN(len(f.given))
			f.answer(f.given[i].Answer, f.by[i])
		}
	case 5:
		f.order(m.report.Edge, events.LeaveEdge{ID: m.report.Edge, Directory: m.report.Directory})
	case 6:
		f.order(m.report.Edge, events.JoinEdge{
			ID: m.report.Edge, Directory: m.report.Directory, Unit: m.report.Unit, Cluster: m.report.Cluster,
			Address: fmt.Sprintf("127.0.0.1:%d", 9500+f.rnd.IntN(400)), Key: identityOf(-1).key,
		})
	}
}

// drained says of an edge that it has done all there is to do.
func (f *forger) drained(r events.EdgeReport) events.EdgeReport {
	head := f.w.journal.head()
	r.Applied, r.StateHash, r.Serial, r.Fences = head.Seq, f.w.journal.hash(head.Seq), 1<<40, nil
	for _, c := range head.CutoverList() {
		if i := c.FencedWave(); i >= 0 {
			r.Fences = append(r.Fences, events.FenceReport{Cutover: c.ID, Wave: i, Fence: c.Waves[i].FenceSeq, Drained: true})
		}
	}
	return r
}

// tell says it to every driver.
func (f *forger) tell(m overheard) {
	f.w.trace("forged or late: %s, applied %d, signed by %.8s", m.report.Edge, m.report.Applied, m.signer)
	for _, d := range f.w.drivers {
		f.w.after(time.Duration(f.rnd.Int64N(int64(time.Millisecond))), d.mine(func() {
			if m.ask != nil {
				d.step(cutover.Asked{At: d.at(), Request: *m.ask, Reply: "nobody", Signer: m.signer})
			} else {
				d.step(cutover.Reported{At: d.at(), Report: m.report, Signer: m.signer})
			}
		}))
	}
}

// grant gives an edge a lease of an hour, with all that the edge compares.
func (f *forger) grant(m overheard) {
	if m.ask == nil {
		return
	}
	f.answer(events.LeaseAnswer{
		Namespace: m.ask.Namespace, Epoch: m.ask.Epoch, Edge: m.ask.Edge, Incarnation: m.ask.Incarnation, Nonce: m.ask.Nonce,
		Term: f.w.journal.head().Office.Term + uint64(f.rnd.IntN(2)), Lease: events.Duration(time.Hour),
	}, f.key())
}

func (f *forger) answer(a events.LeaseAnswer, signer string) {
	if e := f.w.edgeOf(a.Edge, a.Incarnation); e != nil {
		f.w.trace("forged or late: a lease of %s for %s, signed by %.8s", time.Duration(a.Lease), a.Edge, signer)
		f.w.after(0, e.mine(func() { e.step(agent.Answered{Now: e.clock(), Answer: a, Signer: signer}) }))
	}
}

// order gives a command in an edge's name.
func (f *forger) order(edge string, c events.Command) {
	f.w.trace("forged: %T of %s", c, edge)
	f.w.submit(f.w.bus, events.Envelope{ID: f.w.uuid(9), Actor: "edge/" + edge, Signer: f.key(), Command: c}, func(fate cutover.Fate, _ uint64, _ error) {
		if fate == cutover.Accepted {
			f.w.bug("forgery", "%T in the name of %s took effect", c, edge)
		}
	})
}
