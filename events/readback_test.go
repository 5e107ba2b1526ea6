package events

import (
	"errors"
	"fmt"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

// What is stored can be read: an event that packs well is too large if nobody would unpack it. Here an outage, in which
// many domains are removed by force while many edges do not answer.
func TestEventThatNobodyWouldUnpack(t *testing.T) {
	w := shop(t)
	silent := run(400, func(i int) string { return fmt.Sprintf("edge-in-a-region-%d", i) })
	e := ConfigApplied{Namespace: "shop"}
	for i := range 1000 {
		e.Ended = append(e.Ended, DomainEnd{DomainSessions{Host: fmt.Sprintf("shop-%d.example", i), SilentEdges: silent}, true})
	}
	rec, err := NewRecord(w.s, w.envelope(PutUnit{}), e, w.now)
	if err == nil {
		_, err = rec.Event()
		t.Fatalf("an event of %d bytes is stored, and whoever reads it says: %v", len(rec.Data), err)
	}
	if !errors.Is(err, ErrTooLarge) {
		t.Error(err)
	}
}

// mails are IDs with much in common that front coding does not find, but DEFLATE does.
func mails(from, n int) []string {
	return run(n, func(i int) string { return fmt.Sprintf("%d@customers.mail.example.com", from+i) })
}

// Lists that became long step by step are read back like any others: from the state, and from the event of a drain.
func TestListsOfManyBytes(t *testing.T) {
	cfg := shopConfig()
	r := cfg.Rules["unit_type"]
	r.Exact, r.ExactDelta = nil, map[string]routing.Packed{"unbj": packed(mails(100_000, 30_000)...)}
	cfg.Rules["unit_type"] = r
	w := newWorld(t)
	w.do(ApplyConfig{Config: cfg})
	joinAll(w)
	p := w.do(PreviewCutover{ExactAddDelta: map[string]routing.Packed{"unbj": packed(mails(200_000, 30_000)...)}}).(CutoverProposed)
	runCutover(w, p.Cutover)
	s, err := DecodeState(w.s.Encode())
	if err != nil {
		t.Fatalf("the state does not read back: %v", err)
	}
	if s.Hash() != w.s.Hash() {
		t.Error("it reads back as another one")
	}
	w.do(PreviewCutover{Drain: "unbj", DrainTo: "center"})
	if got := w.records[len(w.records)-1]; len(got.Data) > MaxEventSize {
		t.Errorf("%d bytes", len(got.Data))
	}
}
