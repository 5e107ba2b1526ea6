package routing_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

func TestCheckWaves(t *testing.T) {
	from := mustRules(t, 10, ranges{"a": {{From: 0, To: 5}}, "b": {{From: 6, To: 9}}}, exact{"b": {"x"}, "a": {"stays"}})
	to := mustRules(t, 10, ranges{"a": {{From: 0, To: 7}}, "b": {{From: 8, To: 9}}}, exact{"a": {"x", "stays"}})
	slots := func(rg ...routing.Range) routing.Keys { return routing.Keys{Slots: rg} }
	ids := func(id ...string) routing.Keys { return routing.Keys{Exact: routing.MustIDs(id...)} }
	six, seven := routing.Range{From: 6, To: 6}, routing.Range{From: 7, To: 7}
	for _, c := range []struct {
		name  string
		waves []routing.Keys
		want  string // "" means fine
	}{
		{"one", []routing.Keys{{Slots: []routing.Range{{From: 6, To: 7}}, Exact: routing.MustIDs("x")}}, ""},
		{"three in any order", []routing.Keys{ids("x"), slots(seven), slots(six)}, ""},
		{"an empty wave", []routing.Keys{{}, {Slots: []routing.Range{seven, six}, Exact: routing.MustIDs("x")}}, ""},
		{"none", nil, "there is none"},
		{"a slot missing", []routing.Keys{slots(six), ids("x")}, "1 of 3 moving keys"},
		{"the ID missing", []routing.Keys{slots(six, seven)}, "1 of 3 moving keys"},
		{"a slot twice", []routing.Keys{slots(six, six)}, "slot 6"},
		{"a slot in two waves", []routing.Keys{slots(six), slots(seven, six)}, "wave 1: slot 6"},
		{"a slot that stays", []routing.Keys{slots(routing.Range{From: 5, To: 7})}, "slot 5"},
		{"a slot beyond the end", []routing.Keys{slots(routing.Range{From: 6, To: 10})}, "6-10"},
		{"the largest slot", []routing.Keys{slots(routing.Range{From: 6, To: math.MaxUint32})}, "0-9"},
		{"backwards", []routing.Keys{slots(routing.Range{From: 7, To: 6})}, "7-6"},
		{"an ID twice", []routing.Keys{ids("x"), ids("x")}, `"x"`},
		{"an ID that stays", []routing.Keys{ids("stays")}, `"stays"`},
		{"an ID that nobody lists", []routing.Keys{ids("5")}, `"5"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := routing.CheckWaves(from, to, c.waves)
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if !errors.Is(err, routing.ErrWaves) || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want %q", err, c.want)
			}
		})
	}
	other := mustRules(t, 11, ranges{"a": {{From: 0, To: 10}}}, nil)
	if err := routing.CheckWaves(from, other, nil); !errors.Is(err, routing.ErrSlots) {
		t.Errorf("rule sets of different sizes: %v", err)
	}
}

// A table holds 65,535 routes; waves that would need more are refused instead of routing keys by a wrapped index.
func TestCheckWavesBoundsRoutes(t *testing.T) {
	const slots = 1 << 17
	from := mustRules(t, slots, ranges{"a": {{From: 0, To: slots - 1}}}, nil)
	to := mustRules(t, slots, ranges{"b": {{From: 0, To: slots - 1}}}, nil)
	var waves []routing.Keys
	for s := range uint32(slots) {
		waves = append(waves, routing.Keys{Slots: []routing.Range{{From: s, To: s}}})
	}
	if err := routing.CheckWaves(from, to, waves); !errors.Is(err, routing.ErrWaves) {
		t.Fatalf("%d waves: %v", len(waves), err)
	}
}

func TestDiffText(t *testing.T) {
	from := mustRules(t, 10000, walkRanges(), exact{"unbj": {"4001", "vip-7"}, "center": {"same"}})
	to := mustRules(t, 10000, ranges{"center": {{From: 0, To: 6380}}, "unbj": {{From: 6381, To: 9999}}}, exact{"center": {"4001", "same", "new"}})
	const want = `- 0-5997 center
- 5998-9999 unbj
+ 0-6380 center
+ 6381-9999 unbj
- exact 4001 unbj
- exact vip-7 unbj
+ exact 4001 center
+ exact new center
`
	if got := routing.DiffText(from, to); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	part := mustRules(t, 10000, ranges{"center": {{From: 0, To: 4999}}, "third": {{From: 5000, To: 5997}}, "unbj": {{From: 5998, To: 9999}}}, nil)
	plain := mustRules(t, 10000, walkRanges(), nil)
	const wantPart = `- 0-5997 center
  5998-9999 unbj
+ 0-4999 center
+ 5000-5997 third
`
	if got := routing.DiffText(plain, part); got != wantPart {
		t.Errorf("got\n%swant\n%s", got, wantPart)
	}
}

// Rule sets of many ranges are compared in time proportional to them.
func TestDiffTextOfManyRanges(t *testing.T) {
	alternate := func(even, odd string) *routing.Rules {
		r := ranges{}
		for s := range uint32(200_000) {
			u := even
			if s%2 == 1 {
				u = odd
			}
			r[u] = append(r[u], routing.Range{From: s, To: s})
		}
		return mustRules(t, 200_000, r, nil)
	}
	if n := strings.Count(routing.DiffText(alternate("a", "b"), alternate("b", "a")), "\n"); n != 400_000 {
		t.Errorf("%d lines", n)
	}
}
