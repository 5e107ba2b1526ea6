package routing

import (
	"encoding/json"
	"fmt"
)

// rulesJSON is the form of a rule set in events and states. A list of up to ShortList exact IDs is written as it is, a
// longer one packed. In a state the lists of all its rule sets stand beside them, each once, and List names them.
type rulesJSON struct {
	Slots      uint32              `json:"slots"`
	Part       Part                `json:"substring,omitzero"`
	Ranges     map[string][]Range  `json:"ranges"`
	Exact      map[string][]string `json:"exact,omitempty"`
	ExactDelta map[string]Packed   `json:"exactDelta,omitempty"`
	List       string              `json:"exactLists,omitempty"`
}

// MarshalJSON is canonical: equal rule sets give equal bytes.
func (r *Rules) MarshalJSON() ([]byte, error) {
	j := rulesJSON{Slots: r.slotting.Slots, Part: r.slotting.Part, Ranges: r.Ranges(), List: r.outline}
	j.Exact, j.ExactDelta = SplitLists(r.exact.lists())
	return json.Marshal(j)
}

// UnmarshalJSON validates like Slotting.RulesOf. What names lists that stand elsewhere is not Complete until it is given
// them.
func (r *Rules) UnmarshalJSON(b []byte) error {
	var j rulesJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	n, err := Slotting{j.Slots, j.Part}.RulesOf(j.Ranges, nil)
	if err != nil {
		return err
	}
	lists, err := JoinLists(j.Exact, j.ExactDelta)
	if err == nil {
		n.exact, err = newExact(lists)
	}
	if err == nil && j.List != "" {
		if n.outline = j.List; len(lists) > 0 {
			err = fmt.Errorf("%w: there are exact IDs here and elsewhere", ErrPacked)
		}
	}
	if err == nil {
		*r = *n
	}
	return err
}

// Complete reports whether the exact IDs are here. Only what UnmarshalJSON made can lack them.
func (r *Rules) Complete() bool { return r.outline == "" }

// Lists are the long exact lists of rule sets, by what Outline called them: many rule sets of one state have the same ones,
// and so they are written once.
type Lists map[string]map[string]Packed

// Outline is the rule set without its exact lists, which l has then. One whose lists are short is returned as it is.
func (l Lists) Outline(r *Rules) *Rules {
	if r == nil || !r.exact.long() {
		return r
	}
	out := &Rules{slotting: r.slotting, ranges: r.ranges, exact: noExact(), outline: r.exact.sum()}
	if _, ok := l[out.outline]; !ok {
		packed := map[string]Packed{}
		for unit, ids := range r.exact.lists() {
			packed[unit] = Pack(ids)
		}
		l[out.outline] = packed
	}
	return out
}

// Filler gives rule sets that were outlined their exact lists again. Those with the same lists share them. One goroutine
// uses it.
type Filler struct {
	lists Lists
	read  map[string]*exactLists
}

// NewFiller makes a Filler.
func NewFiller(l Lists) *Filler { return &Filler{lists: l, read: map[string]*exactLists{}} }

// Fill gives a rule set its lists, in place: nobody else may have it yet.
func (f *Filler) Fill(r *Rules) error {
	if r == nil || r.outline == "" {
		return nil
	}
	x, ok := f.read[r.outline]
	if !ok {
		packed, ok := f.lists[r.outline]
		if !ok {
			return fmt.Errorf("%w: the exact lists %q are not there", ErrPacked, r.outline)
		}
		lists, err := JoinLists(nil, packed)
		if err == nil {
			x, err = newExact(lists)
		}
		if err != nil {
			return err
		}
		f.read[r.outline] = x
	}
	r.exact, r.outline = x, ""
	return nil
}
