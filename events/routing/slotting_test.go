package routing_test

import (
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/unitgate/unitgate/events/routing"
)

func TestPart(t *testing.T) {
	part := func(from, length int) routing.Part { return routing.Part{From: from, Length: length} }
	for _, c := range []struct {
		part     routing.Part
		id, want string
	}{
		{routing.Part{}, "13800006249", "13800006249"},
		{part(1, 3), "13800006249", "138"},
		{part(0, 3), "13800006249", "138"},
		{part(8, 4), "13800006249", "6249"},
		{part(8, 0), "13800006249", "6249"},
		{part(8, 99), "13800006249", "6249"},
		{part(-4, 0), "13800006249", "6249"},
		{part(-4, 2), "13800006249", "62"},
		{part(-4, 4), "49", "49"},        // shorter: as far as it goes
		{part(3, 2), "49", "49"},         // none of it: whole
		{part(3, 2), "49x", "x"},         //
		{part(2, 1), "用户七", "户"},         // characters, not bytes
		{part(-1, 0), "用户七", "七"},        //
		{part(1, 1), "\xff\xfe", "\xff"}, // no UTF-8 never gets here, and splits all the same
	} {
		if got := c.part.Of(c.id); got != c.want {
			t.Errorf("%+v of %q is %q, want %q", c.part, c.id, got, c.want)
		}
	}
	for _, bad := range []routing.Part{part(-257, 0), part(257, 0), part(1, -1), part(1, 257)} {
		if err := bad.Check(); !errors.Is(err, routing.ErrBadPart) {
			t.Errorf("%+v: %v", bad, err)
		}
		if _, err := (routing.Slotting{Slots: 4, Part: bad}).Rules(map[string][]routing.Range{"a": {{From: 0, To: 3}}}, nil); !errors.Is(err, routing.ErrBadPart) {
			t.Errorf("rules by %+v: %v", bad, err)
		}
	}
}

// A part agrees with what one would cut by hand, and the rules, the table and their JSON agree on the slot.
func TestSlottingAgrees(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		p := routing.Part{From: rnd.IntN(13) - 6, Length: rnd.IntN(5)}
		s := routing.Slotting{Slots: 1 + rnd.Uint32N(50), Part: p}
		runes := []rune(strings.Repeat("0123456789用户", 2))
		rnd.Shuffle(len(runes), func(i, j int) { runes[i], runes[j] = runes[j], runes[i] })
		runes = runes[:1+rnd.IntN(10)]
		id := string(runes)
		begin := max(p.From-1, 0)
		if p.From < 0 {
			begin = max(len(runes)+p.From, 0)
		}
		begin = min(begin, len(runes))
		end := len(runes)
		if p.Length > 0 {
			end = min(begin+p.Length, end)
		}
		want := string(runes[begin:end])
		if want == "" {
			want = id
		}
		if got := p.Of(id); got != want || !utf8.ValidString(got) {
			t.Fatalf("%+v of %q is %q, want %q", p, id, got, want)
		}
		half := s.Slots / 2
		ranges := map[string][]routing.Range{"b": {{From: half, To: s.Slots - 1}}}
		if half > 0 {
			ranges["a"] = []routing.Range{{From: 0, To: half - 1}}
		}
		r, err := s.Rules(ranges, map[string][]string{"a": {"vip"}})
		if err != nil {
			t.Fatal(err)
		}
		b, err := r.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var back routing.Rules
		if err := back.UnmarshalJSON(b); err != nil || !back.Equal(r) {
			t.Fatalf("%s came back as another: %v", b, err)
		}
		table := routing.Compile(r)
		owner, _ := back.Owner(id)
		if table.Slot(id) != routing.Slot(want, s.Slots) || table.Lookup(id).Unit != owner || table.Slotting() != s {
			t.Fatalf("%q: slot %d of %+v, owner %s", id, table.Slot(id), s, owner)
		}
	}
}

// Only the slot comes from a part: exact IDs are compared whole.
func TestExactIDsAreWhole(t *testing.T) {
	s := routing.Slotting{Slots: 10000, Part: routing.Part{From: -4}}
	r, err := s.Rules(map[string][]routing.Range{"a": {{From: 0, To: 9999}}}, map[string][]string{"b": {"6249"}})
	if err != nil {
		t.Fatal(err)
	}
	for id, want := range map[string]string{"6249": "b", "13800006249": "a"} {
		if got, _ := r.Owner(id); got != want || routing.Compile(r).Lookup(id).Unit != want {
			t.Errorf("%s belongs to %s, want %s", id, got, want)
		}
	}
}
