package routing_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

type (
	ranges = map[string][]routing.Range
	exact  = map[string][]string
)

func mustRules(t testing.TB, slots uint32, r ranges, e exact) *routing.Rules {
	t.Helper()
	rules, err := routing.NewRules(slots, r, e)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestNewRulesErrors(t *testing.T) {
	whole := ranges{"a": {{From: 0, To: 9}}}
	long := strings.Repeat("7", 257)
	many := ranges{}
	for i := range uint32(routing.MaxUnits + 1) {
		many[fmt.Sprintf("u%d", i)] = []routing.Range{{From: i, To: i}}
	}
	for _, c := range []struct {
		name   string
		slots  uint32
		ranges ranges
		exact  exact
		want   error
		text   string // must stand in the message
	}{
		{"no slots", 0, nil, nil, routing.ErrSlots, "1-1048576"},
		{"too many slots", routing.MaxSlots + 1, nil, nil, routing.ErrSlots, "1048577"},
		{"no ranges", 10, nil, nil, routing.ErrGap, "slots 0-9 "},
		{"empty list", 10, ranges{"a": nil}, nil, routing.ErrGap, "slots 0-9 "},
		{"gap in front", 10, ranges{"a": {{From: 1, To: 9}}}, nil, routing.ErrGap, "slots 0 "},
		{"gap between", 10, ranges{"a": {{From: 0, To: 4}}, "b": {{From: 7, To: 9}}}, nil, routing.ErrGap, "slots 5-6 "},
		{"gap behind", 10, ranges{"a": {{From: 0, To: 4}}, "b": {{From: 5, To: 8}}}, nil, routing.ErrGap, "slots 9 "},
		{"overlap of two", 10, ranges{"a": {{From: 0, To: 5}}, "b": {{From: 5, To: 9}}}, nil, routing.ErrOverlap, "slots 5 belong to a and b"},
		{"overlap inside", 10, ranges{"a": {{From: 0, To: 9}}, "b": {{From: 3, To: 4}}}, nil, routing.ErrOverlap, "slots 3-4 belong to a and b"},
		{"overlap with itself", 10, ranges{"a": {{From: 0, To: 9}, {From: 0, To: 9}}}, nil, routing.ErrOverlap, "a and a"},
		{"beyond the end", 10, ranges{"a": {{From: 0, To: 10}}}, nil, routing.ErrBadRange, "0-9"},
		{"far beyond", 10, ranges{"a": {{From: 0, To: math.MaxUint32}}}, nil, routing.ErrBadRange, "0-9"},
		{"backwards", 10, ranges{"a": {{From: 9, To: 0}}}, nil, routing.ErrBadRange, "9-0 of a"},
		{"exact in two units", 10, whole, exact{"a": {"x"}, "b": {"x"}}, routing.ErrExactTwice, `"x" belongs to a and b`},
		{"exact twice in one", 10, whole, exact{"a": {"x", "x"}}, routing.ErrExactTwice, `"x"`},
		{"exact empty", 10, whole, exact{"a": {""}}, routing.ErrBadRouterID, "exact list of a"},
		{"exact too long", 10, whole, exact{"a": {long}}, routing.ErrBadRouterID, "257 bytes"},
		{"exact with a space", 10, whole, exact{"a": {"a b"}}, routing.ErrBadRouterID, "byte 1"},
		{"too many units", 1 << 12, many, nil, routing.ErrUnits, "1025"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := routing.NewRules(c.slots, c.ranges, c.exact)
			if r != nil || !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
				t.Fatalf("got %v, %v; want %q with %q", r, err, c.want, c.text)
			}
		})
	}
}

func TestCheckRouterID(t *testing.T) {
	for _, id := range []string{"1", "-5", "vip-7", "用户七", "a%20b", strings.Repeat("9", 256), "é"} {
		if err := routing.CheckRouterID(id); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	for _, id := range []string{
		"", strings.Repeat("9", 257), " ", "a ", "\ta", "a\nb", "a\r\nX: y", "\x00", "\x7f", "a\u0085", "a\u00a0b", "\u2028", "\xff", "a\xc3", "\ufffd",
	} {
		if err := routing.CheckRouterID(id); !errors.Is(err, routing.ErrBadRouterID) {
			t.Errorf("%q: got %v", id, err)
		}
	}
}

func TestRangeText(t *testing.T) {
	for text, want := range map[string]routing.Range{
		"0": {}, "7": {From: 7, To: 7}, "5998-9999": {From: 5998, To: 9999}, "3-3": {From: 3, To: 3},
		"0-4294967295": {To: math.MaxUint32}, "007": {From: 7, To: 7},
	} {
		if got, err := routing.ParseRange(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
		if back, err := routing.ParseRange(want.String()); err != nil || back != want {
			t.Errorf("%v does not read back: %v, %v", want, back, err)
		}
	}
	for _, text := range []string{"", "-", "-5", "5-", "9-0", "1-2-3", "a", "1 - 2", "+1", "0x1", "1.5", "4294967296", "-1-5", "1--5", "１"} {
		if _, err := routing.ParseRange(text); !errors.Is(err, routing.ErrBadRange) {
			t.Errorf("%q: got %v", text, err)
		}
	}
	if n := (routing.Range{To: math.MaxUint32}).Len(); n != 1<<32 {
		t.Errorf("Len of the largest range is %d", n)
	}
}

// Neighbouring ranges of one unit are one range, however they were written.
func TestRulesAreCanonical(t *testing.T) {
	a := mustRules(t, 10, ranges{"a": {{From: 5, To: 6}, {From: 0, To: 2}, {From: 3, To: 4}}, "b": {{From: 7, To: 9}}, "c": nil}, exact{"b": {"y", "x"}, "c": {}})
	b := mustRules(t, 10, ranges{"a": {{From: 0, To: 6}}, "b": {{From: 7, To: 7}, {From: 8, To: 9}}}, exact{"b": {"x", "y"}})
	if !a.Equal(b) {
		t.Error("they say the same and are not equal")
	}
	x, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, _ := json.Marshal(b)
	const want = `{"slots":10,"ranges":{"a":["0-6"],"b":["7-9"]},"exact":{"b":["x","y"]}}`
	if string(x) != want || string(y) != want {
		t.Errorf("got %s\nand %s\nwant %s", x, y, want)
	}
	if got := a.Units(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("Units are %v", got)
	}
	for _, c := range []*routing.Rules{
		mustRules(t, 10, ranges{"a": {{From: 0, To: 6}}, "b": {{From: 7, To: 9}}}, nil),
		mustRules(t, 10, ranges{"a": {{From: 0, To: 6}}, "b": {{From: 7, To: 9}}}, exact{"a": {"x"}, "b": {"y"}}),
		mustRules(t, 10, ranges{"a": {{From: 0, To: 5}}, "b": {{From: 6, To: 9}}}, exact{"b": {"x", "y"}}),
		mustRules(t, 11, ranges{"a": {{From: 0, To: 6}}, "b": {{From: 7, To: 10}}}, exact{"b": {"x", "y"}}),
	} {
		if a.Equal(c) {
			t.Errorf("equal, but differs: %v", c)
		}
	}
}

// What comes from outside is validated like everything else, and a failure leaves the receiver alone.
func TestUnmarshalHostileJSON(t *testing.T) {
	for _, in := range []string{
		`null`, `{}`, `[]`, `7`, `"x"`, `{"slots":10}`, `{"slots":-1}`, `{"slots":1e9}`, `{"slots":4294967296}`,
		`{"slots":10,"ranges":{"a":["0-8"]}}`, `{"slots":10,"ranges":{"a":["0-10"]}}`, `{"slots":10,"ranges":{"a":["0-4294967295"]}}`,
		`{"slots":10,"ranges":{"a":null}}`, `{"slots":10,"ranges":{"a":[null]}}`, `{"slots":10,"ranges":{"a":"0-9"}}`, `{"slots":10,"ranges":[]}`,
		`{"slots":10,"ranges":{"a":["0-9"]},"exact":{"a":[null]}}`, `{"slots":10,"ranges":{"a":["0-9"]},"exact":{"a":["x","x"]}}`,
		`{"slots":10,"ranges":{"a":["0-9"]},"exact":{"a":["` + strings.Repeat("9", 257) + `"]}}`,
		`{"slots":10,"ranges":{"a":["9-0"]}}`, `{"slots":4294967295,"ranges":{"a":["0-4294967294"]}}`,
	} {
		r := mustRules(t, 1, ranges{"a": {{}}}, nil)
		if err := r.UnmarshalJSON([]byte(in)); err == nil {
			t.Errorf("%s was accepted", in)
		}
		if r.Slots() != 1 || r.SlotOwner(0) != "a" {
			t.Errorf("%s changed the receiver", in)
		}
	}
}

func TestUnitsIn(t *testing.T) {
	r := mustRules(t, 10, ranges{"a": {{From: 0, To: 2}, {From: 6, To: 6}}, "b": {{From: 3, To: 5}, {From: 7, To: 9}}}, nil)
	for rg, want := range map[routing.Range]string{
		{From: 0, To: 0}: "a", {From: 0, To: 2}: "a", {From: 2, To: 3}: "a b", {From: 0, To: 9}: "a b a b", {From: 9, To: 9}: "b", {From: 4, To: 6}: "b a",
	} {
		if got := strings.Join(r.UnitsIn(rg), " "); got != want {
			t.Errorf("UnitsIn(%s) = %q, want %q", rg, got, want)
		}
	}
}
