package command_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/projector"
)

// handlerOn runs a projector and a handler of their own over a journal: one control process.
func handlerOn(t *testing.T, j journal.Journal) *command.Handler { return handlerWith(t, j, nil) }

func handlerWith(t *testing.T, j journal.Journal, prepare command.Preparer) *command.Handler {
	t.Helper()
	p := projector.New(j, nil, false, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = p.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return command.NewHandler(p, prepare, time.Now, slog.New(slog.DiscardHandler))
}

func withUnits() events.Envelope {
	return events.Envelope{ID: uuid.NewString(), Actor: "test", Command: events.ApplyConfig{Config: events.Config{
		Namespace: "shop",
		UnitTypes: []events.UnitType{{Name: "unit_type", Slots: 100}},
		Units:     []events.Unit{{ID: "center", Center: true}, {ID: "unbj"}},
	}}}
}

func head(t *testing.T, j journal.Journal) uint64 {
	t.Helper()
	seq, err := j.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return seq
}

// G3: "a command that was acknowledged … takes effect once, however often it is retried".
func TestSameIDTakesEffectOnce(t *testing.T) {
	j := journal.NewMemory("shop")
	handlers := []*command.Handler{handlerOn(t, j), handlerOn(t, j)}
	env := withUnits()
	outcomes := make([]string, 10)
	var wg sync.WaitGroup
	for i := range outcomes {
		wg.Go(func() {
			b, _ := json.Marshal(handlers[i%2].Do(t.Context(), env))
			outcomes[i] = string(b)
		})
	}
	wg.Wait()
	for _, o := range outcomes {
		if o != outcomes[0] {
			t.Errorf("one id, two outcomes:\n%s\n%s", outcomes[0], o)
		}
	}
	if n := head(t, j); n != 1 {
		t.Errorf("journal has %d events, want 1", n)
	}
	var o command.Outcome
	if err := json.Unmarshal([]byte(outcomes[0]), &o); err != nil || !o.OK || o.Seq != 1 {
		t.Errorf("outcome %s", outcomes[0])
	}
}

// jealous is a journal that counts the appends which another event came first of.
type jealous struct {
	journal.Journal
	conflicts atomic.Int64
}

func (j *jealous) Append(ctx context.Context, after uint64, rec events.Record) (events.Record, error) {
	stored, err := j.Journal.Append(ctx, after, rec)
	if errors.Is(err, journal.ErrConflict) {
		j.conflicts.Add(1)
	}
	return stored, err
}

// Commands of one process do not defeat each other, or those of a flood would be refused as "busy".
func TestCommandsOfOneProcessTakeTurns(t *testing.T) {
	j := &jealous{Journal: journal.NewMemory("shop")}
	h := handlerOn(t, j)
	if o := h.Do(t.Context(), withUnits()); !o.OK {
		t.Fatal(o.Error)
	}
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			o := h.Do(t.Context(), events.Envelope{ID: uuid.NewString(), Command: events.PutUnit{Unit: events.Unit{ID: fmt.Sprintf("u%d", i)}}})
			if !o.OK {
				t.Error(o.Error)
			}
		})
	}
	all.Wait()
	if n := j.conflicts.Load(); n > 0 {
		t.Errorf("%d appends came too late", n)
	}
}

func TestConcurrentCommandsAllTakeEffect(t *testing.T) {
	j := journal.NewMemory("shop")
	handlers := []*command.Handler{handlerOn(t, j), handlerOn(t, j), handlerOn(t, j)}
	if o := handlers[0].Do(t.Context(), withUnits()); !o.OK {
		t.Fatal(o.Error)
	}
	const each = 20
	var wg sync.WaitGroup
	for h, handler := range handlers {
		wg.Go(func() {
			for i := range each {
				unit := events.PutUnit{Unit: events.Unit{ID: fmt.Sprintf("u%d-%d", h, i)}}
				for { // "busy" promises that nothing happened
					o := handler.Do(t.Context(), events.Envelope{ID: uuid.NewString(), Command: unit})
					if o.OK {
						break
					}
					if o.Error.Code != command.ErrBusy.Code {
						t.Error(o.Error)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if n := head(t, j); n != 1+each*uint64(len(handlers)) {
		t.Errorf("journal has %d events", n)
	}
	for _, h := range handlers { // each sees every unit
		if o := h.Do(t.Context(), events.Envelope{ID: uuid.NewString(), Command: events.PutUnit{Unit: events.Unit{ID: "u2-19", Name: fmt.Sprint(h)}}}); !o.OK {
			t.Error(o.Error)
		}
	}
}

func TestRejectedCommandsAppendNothing(t *testing.T) {
	j := journal.NewMemory("shop")
	h := handlerOn(t, j)
	if o := h.Do(t.Context(), withUnits()); !o.OK {
		t.Fatal(o.Error)
	}
	before := head(t, j)
	for code, c := range map[string]events.Command{
		"unknown_unit":     events.PutCluster{Cluster: events.Cluster{ID: "c", Unit: "nowhere"}},
		"bad_name":         events.PutUnit{Unit: events.Unit{ID: "No Good"}},
		"unknown_cutover":  events.StartCutover{Cutover: "c9"},
		"namespace_exists": events.CreateNamespace{},
		"stale_version":    events.ApplyConfig{Base: 99, Config: events.Config{Namespace: "shop"}},
		"stale_term":       events.FenceWave{Cutover: "c1", Term: 7},
	} {
		if o := h.Do(t.Context(), events.Envelope{ID: uuid.NewString(), Command: c}); o.OK || o.Error.Code != code {
			t.Errorf("%T: %+v, want %s", c, o, code)
		}
	}
	if o := h.Do(t.Context(), events.Envelope{ID: "not a uuid", Command: events.PutUnit{Unit: events.Unit{ID: "x"}}}); o.OK || o.Error.Code != "bad_id" {
		t.Errorf("bad id: %+v", o)
	}
	if n := head(t, j); n != before {
		t.Errorf("rejected commands appended %d events", n-before)
	}
}

// A rejected command is decided anew: the same id may succeed later.
func TestRejectedIDIsDecidedAnew(t *testing.T) {
	j := journal.NewMemory("shop")
	h := handlerOn(t, j)
	if o := h.Do(t.Context(), withUnits()); !o.OK {
		t.Fatal(o.Error)
	}
	put := events.Envelope{ID: uuid.NewString(), Command: events.PutCluster{Cluster: events.Cluster{ID: "ws", Unit: "unsh"}}}
	if o := h.Do(t.Context(), put); o.OK {
		t.Fatal("accepted without its unit")
	}
	if o := h.Do(t.Context(), events.Envelope{ID: uuid.NewString(), Command: events.PutUnit{Unit: events.Unit{ID: "unsh"}}}); !o.OK {
		t.Fatal(o.Error)
	}
	if o := h.Do(t.Context(), put); !o.OK {
		t.Fatal(o.Error)
	}
}

// A journal that loses the answer of an append, and one that does not store it at all.
type lossy struct {
	journal.Journal
	drop, mute int // appends to swallow before, and to stay silent after storing
}

func (l *lossy) Append(ctx context.Context, after uint64, rec events.Record) (events.Record, error) {
	if l.drop > 0 {
		l.drop--
		return rec, journal.ErrUnknown
	}
	stored, err := l.Journal.Append(ctx, after, rec)
	if err == nil && l.mute > 0 {
		l.mute--
		return stored, journal.ErrUnknown
	}
	return stored, err
}

func TestUnclearAppendIsLookedUp(t *testing.T) {
	j := &lossy{Journal: journal.NewMemory("shop"), mute: 1}
	h := handlerOn(t, j)
	if o := h.Do(t.Context(), withUnits()); !o.OK || o.Seq != 1 {
		t.Fatalf("stored, but the answer was %+v", o)
	}
	j.drop = 1
	put := events.Envelope{ID: uuid.NewString(), Command: events.PutUnit{Unit: events.Unit{ID: "unsh"}}}
	if o := h.Do(t.Context(), put); o.OK || o.Error.Code != command.ErrUnavailable.Code {
		t.Fatalf("not stored, but the answer was %+v", o)
	}
	if o := h.Do(t.Context(), put); !o.OK || o.Seq != 2 {
		t.Fatalf("retry with the same id: %+v", o)
	}
}

// What `cutover preview` answers follows from the event alone, with the fields of `cutover show`.
func TestPreviewAnswersTheProposal(t *testing.T) {
	j := journal.NewMemory("shop")
	h := handlerOn(t, j)
	env := withUnits()
	apply := env.Command.(events.ApplyConfig)
	apply.Config.Rules = map[string]events.RulesConfig{"unit_type": {Ranges: map[string][]routing.Range{
		"center": {{From: 0, To: 59}}, "unbj": {{From: 60, To: 99}},
	}}}
	env.Command = apply
	if o := h.Do(t.Context(), env); !o.OK {
		t.Fatal(o.Error)
	}
	preview := events.Envelope{ID: uuid.NewString(), Command: events.PreviewCutover{
		Ranges: map[string][]routing.Range{"center": {{From: 0, To: 63}}, "unbj": {{From: 64, To: 99}}},
		Exact:  map[string][]string{"center": {"99"}},
	}}
	o := h.Do(t.Context(), preview)
	if !o.OK {
		t.Fatal(o.Error)
	}
	want := `{"id":"c1","state":"proposed","slots":4,"waves":[{"index":0,"slots":4,"exact":1,"state":"pending"}],` +
		`"sessions":0,"silentEdges":[],"cutover":"c1","unitType":"unit_type","ruleFrom":1,"ruleTo":2,` +
		`"moves":[{"from":60,"to":63,"source":"unbj","target":"center"}],"exactMoves":[{"id":"99","source":"unbj","target":"center"}],` +
		`"diff":"- 0-59 center\n- 60-99 unbj\n+ 0-63 center\n+ 64-99 unbj\n+ exact 99 center\n","rate":1000,"counted":{"sessions":0,"silentEdges":[]}}`
	if string(o.Data) != want {
		t.Errorf("answer\n%s\nwant\n%s", o.Data, want)
	}
	if again := h.Do(t.Context(), preview); string(again.Data) != want {
		t.Errorf("the same id answers %s", again.Data)
	}
}
