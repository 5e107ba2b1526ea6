package integration_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

// watch hears what happens in a namespace: the journal's records about cutovers and the office, and the edges' reports.
type watch struct {
	mu      sync.Mutex
	facts   []fact
	reports map[string]events.EdgeReport // newest by edge
	changed chan struct{}                // closed when something came
	err     error                        // why it hears no more
}

// fact is one record, as far as it is of interest here.
type fact struct {
	seq     uint64
	kind    string // "WaveFenced"
	at      time.Time
	Cutover string     `json:"cutover"`
	Wave    int        `json:"wave"`
	Why     events.Why `json:"why"`
}

func startWatch(t *testing.T, nc *nats.Conn, js jetstream.JetStream, namespace string) *watch {
	t.Helper()
	w := &watch{reports: map[string]events.EdgeReport{}, changed: make(chan struct{})}
	j, err := journal.Open(t.Context(), js, namespace)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := nc.Subscribe("unitgate.edge."+namespace+".*.*.report", func(m *nats.Msg) {
		var r events.EdgeReport
		if json.Unmarshal(m.Data, &r) == nil {
			w.note(func() { w.reports[r.Edge] = r })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	following.Go(func() {
		err := j.Follow(ctx, journal.Cursor{}, w.record)
		if ctx.Err() == nil {
			w.note(func() { w.err = err })
		}
	})
	t.Cleanup(func() { cancel(); following.Wait(); _ = sub.Unsubscribe() })
	return w
}

func (w *watch) record(r events.Record) error {
	if !strings.HasPrefix(r.Type, "Cutover") && !strings.HasPrefix(r.Type, "Wave") && r.Type != "DriverTookOffice" {
		return nil
	}
	f := fact{seq: r.Seq, kind: r.Type, at: r.Time}
	if r.Type != "DriverTookOffice" {
		if err := json.Unmarshal(r.Data, &f); err != nil {
			return err
		}
	}
	w.note(func() { w.facts = append(w.facts, f) })
	return nil
}

func (w *watch) note(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
	close(w.changed)
	w.changed = make(chan struct{})
}

// await returns as soon as what was heard satisfies found, which is called under the watch's lock.
func (w *watch) await(t *testing.T, within time.Duration, what string, found func() bool) {
	t.Helper()
	overdue := time.After(within)
	for {
		w.mu.Lock()
		ok, changed, err := found(), w.changed, w.err
		w.mu.Unlock()
		switch {
		case ok:
			return
		case err != nil:
			t.Fatalf("the journal cannot be followed: %v", err)
		}
		select {
		case <-changed:
		case <-overdue:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// of finds a cutover's newest fact of a kind, if it is about that wave; -1 is any.
func (w *watch) of(cutover, kind string, wave int) (fact, bool) {
	for i := len(w.facts) - 1; i >= 0; i-- {
		if f := w.facts[i]; f.Cutover == cutover && f.kind == kind && (wave < 0 || f.Wave == wave) {
			return f, true
		}
	}
	return fact{}, false
}

// newest is a cutover's newest fact that says where it stands.
func (w *watch) newest(cutover string) fact {
	for i := len(w.facts) - 1; i >= 0; i-- {
		switch f := w.facts[i]; {
		case f.Cutover != cutover:
		case f.kind == "CutoverCompleted", f.kind == "CutoverPaused", f.kind == "CutoverAborted", f.kind == "CutoverResumed":
			return f
		}
	}
	return fact{}
}

// drained says whether these edges have all reported a wave as drained, under the fence that stands.
func (w *watch) drained(cutover string, wave int, edges []string) bool {
	fence, ok := w.of(cutover, "WaveFenced", wave)
	if !ok {
		return false
	}
	for _, id := range edges {
		done := false
		for _, f := range w.reports[id].Fences {
			done = done || f.Cutover == cutover && f.Fence == fence.seq && f.Drained
		}
		if !done {
			return false
		}
	}
	return true
}

// tookOffice is when a driver first took office after a moment.
func (w *watch) tookOffice(after time.Time) (time.Time, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.facts {
		if f.kind == "DriverTookOffice" && f.at.After(after) {
			return f.at, true
		}
	}
	return time.Time{}, false
}
