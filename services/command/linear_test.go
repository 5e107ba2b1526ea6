package command_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/google/uuid"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/command"
)

// badJournal loses writes and answers at random, and ends its controller right after some appends.
type badJournal struct {
	journal.Journal
	w   *world
	die func()
}

func (b badJournal) Append(ctx context.Context, after uint64, rec events.Record) (events.Record, error) {
	if b.w.chance(12) {
		return rec, journal.ErrUnknown // never sent
	}
	stored, err := b.Journal.Append(ctx, after, rec)
	switch {
	case err != nil:
	case b.w.chance(12):
		return rec, journal.ErrUnknown // the answer is lost
	case b.w.chance(8):
		b.die() // before anybody hears of it
	}
	return stored, err
}

func (b badJournal) Find(ctx context.Context, entity, verb, id string) (events.Record, bool, error) {
	if b.w.chance(12) {
		return events.Record{}, false, errors.New("no answer")
	}
	return b.Journal.Find(ctx, entity, verb, id)
}

// forgetful is a journal without the duplicate guard: the checker must see what a handler on it does.
type forgetful struct{ journal.Journal }

func (f forgetful) Append(ctx context.Context, after uint64, rec events.Record) (events.Record, error) {
	rec.CommandID = uuid.NewString()
	return f.Journal.Append(ctx, after, rec)
}

func (f forgetful) Find(context.Context, string, string, string) (events.Record, bool, error) {
	return events.Record{}, false, nil
}

// world is one random history: clients that give commands, now and then the same ones, to controllers that die.
type world struct {
	t      *testing.T
	s      *journaltest.Server
	broken bool
	dead   chan int
	clock  atomic.Int64 // orders calls and returns

	mu      sync.Mutex
	rand    *rand.Rand
	given   []input
	version uint64 // newest that anybody has seen
	history []porcupine.Operation
}

func (w *world) chance(n int) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rand.IntN(n) == 0
}

// controller starts controller i of the world.
func (w *world) controller(i int) *controller {
	return control(w.t, w.s, func(c *controller) {
		die := sync.OnceFunc(func() { c.nc.Close(); w.dead <- i })
		c.wrap = func(j journal.Journal) journal.Journal {
			if w.broken {
				j = forgetful{j}
			}
			return badJournal{j, w, die}
		}
	})
}

// next is a new operation, or a command that somebody gave already.
func (w *world) next() input {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.given) > 0 && w.rand.IntN(3) == 0 {
		return w.given[len(w.given)-1-w.rand.IntN(min(4, len(w.given)))]
	}
	in := input{id: uuid.NewString(), unit: fmt.Sprintf("u%d", w.rand.IntN(3)), name: fmt.Sprintf("n%d", w.rand.IntN(4))}
	switch w.rand.IntN(10) {
	case 0, 1:
		in.kind = "read"
		return in
	case 2, 3, 4:
		in.kind = "put"
	default:
		in.kind, in.base = "apply", w.version
	}
	w.given = append(w.given, in)
	return in
}

// request is what an input means on the wire.
func (in input) request() (entity, verb string, r command.Request) {
	r.ID, r.Actor = in.id, "test"
	switch in.kind {
	case "read":
		return "test", "read", r
	case "put":
		r.Data = events.Unit{ID: in.unit, Name: in.name}
		return "unit", "put", r
	}
	r.Data = events.ApplyConfig{Base: in.base, Config: events.Config{Namespace: "shop", Units: []events.Unit{{ID: in.unit, Name: in.name}}}}
	return "config", "apply", r
}

// do carries out an operation and notes it. Only new commands go the durable way: the outcome that stands for an id may be
// of an earlier message.
func (w *world) do(client int, cl *command.Client, in input, durable bool) {
	call := w.clock.Add(1)
	entity, verb, r := in.request()
	var o command.Outcome
	var err error
	if durable {
		if _, err = cl.Publish(w.t.Context(), entity, verb, r, time.Hour); err == nil {
			var s command.Settled
			s, err = cl.Outcome(w.t.Context(), in.id)
			o = s.Outcome
		}
	} else {
		o, err = cl.Do(w.t.Context(), entity, verb, r)
	}
	op := porcupine.Operation{ClientId: client, Input: in, Call: call, Output: ended(in, o, err), Return: w.clock.Add(1)}
	out := op.Output.(output)
	if out.fate == "unknown" {
		op.Return = math.MaxInt64
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.history = append(w.history, op)
	w.version = max(w.version, out.seq, out.Version)
}

func ended(in input, o command.Outcome, err error) output {
	switch {
	case errors.Is(err, command.ErrNoController):
		return output{fate: "nobody"}
	case err != nil, !o.OK && (o.Error.Code == "journal_unavailable" || o.Error.Code == "busy"):
		return output{fate: "unknown"}
	case !o.OK:
		return output{fate: o.Error.Code}
	}
	out := output{fate: "ok", seq: o.Seq}
	if in.kind == "read" {
		if err := json.Unmarshal(o.Data, &out.view); err != nil {
			return output{fate: err.Error()}
		}
	}
	return out
}

// history runs one world: three controllers, four clients.
func history(t *testing.T, seed uint64, broken bool) []porcupine.Operation {
	var out []porcupine.Operation
	journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
		first := control(t, s)
		createShop(t, command.NewClient(s.Connect(), "shop"))
		first.close()
		w := &world{t: t, s: s, broken: broken, dead: make(chan int, 100), rand: rand.New(rand.NewPCG(seed, 1)), version: 1}
		var controllers [3]*controller
		for i := range controllers {
			controllers[i] = w.controller(i)
		}
		var clients sync.WaitGroup
		for c := range 4 {
			cl := command.NewClient(s.Connect(), "shop")
			clients.Go(func() {
				for range 10 {
					in := w.next()
					w.mu.Lock()
					fresh := len(w.given) > 0 && w.given[len(w.given)-1] == in && w.rand.IntN(4) == 0
					w.mu.Unlock()
					w.do(c, cl, in, false)
					if fresh { // and one of its own over the queue
						own := input{kind: "put", id: uuid.NewString(), unit: in.unit, name: in.name + "d"}
						w.do(c, cl, own, true)
					}
				}
			})
		}
		finished := make(chan struct{})
		go func() { clients.Wait(); close(finished) }()
		for deaths := 0; ; {
			select {
			case i := <-w.dead:
				deaths++
				controllers[i].kill()
				controllers[i] = w.controller(i)
				continue
			case <-finished:
			}
			t.Logf("seed %d: %d operations, %d deaths", seed, len(w.history), deaths)
			break
		}
		out = w.history
	})
	return out
}

const histories = 20

// G3 as a whole: to its clients the namespace is a register that each command changes once, at one moment between call and
// return, whatever was lost and whoever died. Random concurrent commands and retries of the same ids, over the api and the
// queue, checked by porcupine (Wing and Gong's algorithm with Lowe's improvements).
func TestLinearizable(t *testing.T) {
	for seed := range uint64(histories) {
		ops := history(t, seed, false)
		fates := map[string]int{}
		for _, op := range ops {
			fates[op.Output.(output).fate]++
		}
		t.Log(fates)
		if res := porcupine.CheckOperationsTimeout(model(), ops, time.Minute); res != porcupine.Ok {
			t.Errorf("seed %d: %s", seed, res)
			for _, op := range ops {
				t.Logf("%d-%d client %d: %+v -> %+v", op.Call, op.Return, op.ClientId, op.Input, op.Output)
			}
		}
	}
}

// The check bites: without the duplicate guard a retried command takes effect twice, and that is seen.
func TestLinearizabilityCheckBites(t *testing.T) {
	for seed := range uint64(histories) {
		if porcupine.CheckOperationsTimeout(model(), history(t, seed, true), time.Minute) == porcupine.Illegal {
			return
		}
	}
	t.Errorf("%d histories of a handler that ignores the duplicate guard passed", histories)
}
