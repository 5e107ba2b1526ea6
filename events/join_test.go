package events

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// An edge that hands its sockets over loses its address to its successor in the same event. It stays a member of its
// own: cutovers wait for both, clients come to one.
func TestSuccession(t *testing.T) {
	w := shop(t)
	w.do(successor("hz-9", "hz-1"))
	old, next := w.s.Edges["hz-1"], w.s.Edges["hz-9"]
	if old.Successor != "hz-9" || old.Address != "" || old.Accepts() || old.Gone != "" {
		t.Errorf("%+v", old)
	}
	if next.Address != joinOf("hz-1").Address || !next.Accepts() || next.Successor != "" {
		t.Errorf("%+v", next)
	}
	c := w.s.Cutovers[w.started(1)]
	var needed []string
	for _, e := range w.s.NeededEdges(&c, 0) {
		needed = append(needed, e.ID)
	}
	if want := []string{"bj-1", "bj-2", "hz-1", "hz-2", "hz-9"}; !slices.Equal(needed, want) {
		t.Errorf("a wave waits for %v, want %v", needed, want)
	}

	// A third one after the second, while the first still has sessions; then they leave in any order.
	w.do(successorNow(w, "hz-8", "hz-9"))
	if e := w.s.Edges["hz-9"]; e.Successor != "hz-8" || e.Address != "" {
		t.Errorf("%+v", e)
	}
	w.do(LeaveEdge{ID: "hz-9", Directory: directoryOf("hz-9")})
	if _, err := w.try(joinOf("hz-1")); !errors.Is(err, ErrAddressTaken) {
		t.Errorf("an edge whose address the third one has may join again: %v", err)
	}
	w.do(LeaveEdge{ID: "hz-1", Directory: directoryOf("hz-1")})
	if e := w.s.Edges["hz-8"]; !e.Accepts() {
		t.Errorf("%+v", e)
	}
}

// successorNow takes over the address that the other edge has by now.
func successorNow(w *world, edge, of string) JoinEdge {
	j := successor(edge, of)
	j.Address = w.s.Edges[of].Address
	return j
}

// An edge's key may come later than the edge, or be another one; the same one again changes nothing.
func TestKeyOfAnEdge(t *testing.T) {
	w := shop(t)
	hash := w.s.Hash()
	j := joinOf("hz-1")
	for _, key := range []string{strings.Repeat("0a", 32), strings.Repeat("0b", 32)} {
		j.Key = key
		w.do(j)
		if w.s.Edges["hz-1"].Key != key {
			t.Errorf("%+v", w.s.Edges["hz-1"])
		}
		if _, err := w.try(j); !errors.Is(err, ErrNothingChanges) {
			t.Errorf("the same again: %v", err)
		}
	}
	j.Key = ""
	w.do(j)
	if w.s.Edges["hz-1"] != shop(t).s.Edges["hz-1"] || w.s.Hash() == hash {
		t.Errorf("%+v", w.s.Edges["hz-1"])
	}
	w.do(successor("hz-9", "hz-1"))
	if w.s.Edges["hz-9"].Key != "" {
		t.Error("a successor has its own key only")
	}
}

// When the successor is gone before it served, the edge that never stopped accepting takes its address back.
func TestSuccessorThatFailed(t *testing.T) {
	w := shop(t)
	w.do(successor("hz-9", "hz-1"))
	joined := w.s.Edges["hz-1"].Joined
	w.do(LeaveEdge{ID: "hz-9", Directory: directoryOf("hz-9")})
	w.do(joinOf("hz-1"))
	if e := w.s.Edges["hz-1"]; !e.Accepts() || e.Successor != "" || e.Joined != joined {
		t.Errorf("%+v", e)
	}
	w.do(successor("hz-8", "hz-1"))
}

// A unit whose only registered edges serve their sessions to the end has nobody for those who would come.
func TestSucceededEdgesDoNotPeople(t *testing.T) {
	w := shop(t)
	w.do(successor("hz-9", "hz-1"))
	w.do(RetireEdge{ID: "hz-2", Reason: "burnt"})
	w.do(RetireEdge{ID: "hz-9", Reason: "burnt"})
	c := w.s.Cutovers[w.started(1)]
	if got := w.s.Deserted(&c, 0); !slices.Equal(got, []string{"center"}) {
		t.Errorf("deserted: %v", got)
	}
}
