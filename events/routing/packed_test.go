package routing_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

// The bytes of the format, written out by hand: what stands here is in journals.
func TestPackedOnTheWire(t *testing.T) {
	for _, c := range []struct {
		ids  []string
		want string // what the bytes are
	}{
		{nil, "01 00 00"},
		{[]string{"0"}, "01 01 00 00"},
		{[]string{"300", "4001", "7"}, "01 03 07 a5 02 f5 1c 00"}, // 7, +293, +3701
		{[]string{"9999999999999999999"}, "01 01 ff ff 9f cf c8 e0 c8 e3 8a 01 00"},
		{[]string{"007", "vip-7", "vip-70", "用户"}, "01 00 04 00 03 30 30 37 00 05 76 69 70 2d 37 05 01 30 00 06 e7 94 a8 e6 88 b7"},
		{[]string{"x", "5", "y"}, "01 01 05 02 00 01 78 00 01 79"},
		{[]string{"99999999999999999999"}, "01 00 01 00 14 39 39 39 39 39 39 39 39 39 39 39 39 39 39 39 39 39 39 39 39"}, // 20 digits: no number
	} {
		p := routing.Pack(routing.MustIDs(c.ids...))
		if got := fmt.Sprintf("% x", []byte(p)); got != c.want {
			t.Errorf("%q is packed as %s, want %s", c.ids, got, c.want)
		}
		back, err := p.IDs()
		if err != nil || !back.Equal(routing.MustIDs(c.ids...)) {
			t.Errorf("%q unpacks as %q, %v", c.ids, back.Strings(), err)
		}
	}
}

// What is no packed list is refused, and says where; nothing makes the reader take more memory than a list may.
func TestPackedRefusals(t *testing.T) {
	uvarints := func(v ...uint64) []byte {
		b := []byte{1}
		for _, n := range v {
			b = binary.AppendUvarint(b, n)
		}
		return b
	}
	bomb := uvarints(0, routing.MaxExact) // 300 KB that would be 25 MB
	before := ""
	for i := range routing.MaxExact {
		id, shared := strings.Repeat("x", 251)+fmt.Sprintf("%05d", i), 0
		for shared < len(before) && before[shared] == id[shared] {
			shared++
		}
		bomb = binary.AppendUvarint(binary.AppendUvarint(bomb, uint64(shared)), uint64(len(id)-shared))
		bomb, before = append(bomb, id[shared:]...), id
	}
	for _, c := range []struct {
		name string
		data []byte
		err  error
		say  string
	}{
		{"nothing", nil, routing.ErrPacked, "0 bytes"},
		{"another version", []byte{2, 0, 0}, routing.ErrPacked, "version is 2"},
		{"cut off behind the version", []byte{1}, routing.ErrPacked, "byte 1"},
		{"cut off in the numbers", uvarints(3, 5, 1), routing.ErrPacked, "byte"},
		{"cut off in a number", []byte{1, 1, 0x80}, routing.ErrPacked, "byte 2"},
		{"a longer number than needed", []byte{1, 1, 0x85, 0, 0}, routing.ErrPacked, "longer than it needs"},
		{"more IDs than bytes", uvarints(50_000, 1), routing.ErrPacked, "announced"},
		{"too many numbers", uvarints(routing.MaxExact+1, 1), routing.ErrTooMany, "100001"},
		{"too many others", uvarints(1, 1, routing.MaxExact), routing.ErrTooMany, "100000"},
		{"a number twice", uvarints(2, 5, 0, 0), routing.ErrExactTwice, "5 stands"},
		{"a number of 20 digits", uvarints(2, 9_999_999_999_999_999_999, 1, 0), routing.ErrPacked, "19 digits"},
		{"numbers that run over", uvarints(2, 1, 1<<64-1, 0), routing.ErrPacked, "19 digits"},
		{"bytes behind it", append(uvarints(1, 5, 0), 0), routing.ErrPacked, "1 bytes follow"},
		{"a text twice", append(uvarints(0, 2, 0, 1), 'x', 1, 0), routing.ErrExactTwice, `"x"`},
		{"texts out of order", append(uvarints(0, 2, 0, 1), 'x', 0, 1, 'a'), routing.ErrPacked, "not in order"},
		{"shares too little", append(uvarints(0, 2, 0, 2), 'x', 'a', 0, 2, 'x', 'b'), routing.ErrPacked, "more bytes"},
		{"shares more than there is", append(uvarints(0, 2, 0, 1), 'x', 2, 1, 'b'), routing.ErrPacked, "there are 1"},
		{"a number among the others", append(uvarints(0, 1, 0, 1), '5'), routing.ErrPacked, `"5" is a number`},
		{"a space", append(uvarints(0, 1, 0, 3), 'a', ' ', 'b'), routing.ErrBadRouterID, "byte 1"},
		{"no UTF-8", append(uvarints(0, 1, 0, 2), 'a', 0xff), routing.ErrBadRouterID, "byte 1"},
		{"an empty ID", uvarints(0, 1, 0, 0), routing.ErrBadRouterID, "0 bytes"},
		{"an ID that is too long", append(uvarints(0, 1, 0, 257), bytes.Repeat([]byte("x"), 257)...), routing.ErrPacked, "257"},
		{"a bomb", bomb, routing.ErrTooMany, "8388608"},
		{"too large", make([]byte, 9_388_641), routing.ErrPacked, "9388641 bytes, want 1 to 9388640"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := routing.Packed(c.data).IDs()
			if !errors.Is(err, c.err) || !strings.Contains(err.Error(), c.say) {
				t.Errorf("got %v, want %v with %q", err, c.err, c.say)
			}
		})
	}
}

func TestPackedText(t *testing.T) {
	for _, bad := range []string{"AQ", "AQ=", "!!!!", "AQEFAA==\n", "AQEFAB=="} {
		var p routing.Packed
		if err := p.UnmarshalText([]byte(bad)); err == nil {
			if _, err = p.IDs(); err == nil {
				t.Errorf("%q is taken", bad)
			}
		}
	}
	var p routing.Packed
	if err := p.UnmarshalText(bytes.Repeat([]byte("A"), 13<<20)); !errors.Is(err, routing.ErrPacked) {
		t.Errorf("13 MiB of text: %v", err)
	}
}

// randomIDs are numbers of all lengths, texts that share beginnings, and what is nearly a number.
func randomIDs(r *rand.Rand, n int) []string {
	set := map[string]bool{}
	for len(set) < n {
		v := r.Uint64() >> r.UintN(64)
		switch r.IntN(6) {
		case 0, 1, 2:
			set[fmt.Sprint(v)] = true
		case 3:
			set[fmt.Sprintf("0%d", v%1000)] = true
		case 4:
			set[fmt.Sprintf("vip-%d", v)] = true
		default:
			set[strings.Repeat("用", r.IntN(3))+fmt.Sprintf("%x!", v)] = true
		}
	}
	return slices.Collect(func(yield func(string) bool) {
		for id := range set {
			if !yield(id) {
				return
			}
		}
	})
}

// Properties of sets: packing and JSON lose nothing and have one form, and the set behaves as a set of strings does.
func TestIDs(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 7))
	for range 200 {
		list := randomIDs(r, r.IntN(150))
		s := routing.MustIDs(list...)
		if s.Len() != len(list) {
			t.Fatalf("%d of %d", s.Len(), len(list))
		}
		back, err := routing.Pack(s).IDs()
		if err != nil || !back.Equal(s) || !bytes.Equal(routing.Pack(back), routing.Pack(s)) {
			t.Fatalf("%q unpacks as %q, %v", list, back.Strings(), err)
		}
		j, _ := json.Marshal(s)
		var again routing.IDs
		if err := json.Unmarshal(j, &again); err != nil || !again.Equal(s) || (j[0] == '"') != (len(list) > routing.ShortList) {
			t.Fatalf("%s: %v", j, err)
		}
		sorted := slices.Sorted(slices.Values(list))
		if got := slices.Sorted(s.All()); !slices.Equal(got, sorted) {
			t.Fatalf("got %q, want %q", got, sorted)
		}
		i, k := r.IntN(len(list)+1), r.IntN(len(list)+1)
		i, k = min(i, k), max(i, k)
		part, rest := s.Slice(i, k), s.Slice(0, i).With(s.Slice(k, s.Len()))
		if !slices.Equal(part.Strings(), s.Strings()[i:k]) && i < k || part.Len() != k-i {
			t.Fatalf("[%d,%d) of %q is %q", i, k, s.Strings(), part.Strings())
		}
		if !part.With(rest).Equal(s) || !s.Without(part).Equal(rest) || !routing.MustIDs(part.Strings()...).Equal(part) {
			t.Fatalf("%q and %q are not %q", part.Strings(), rest.Strings(), s.Strings())
		}
		for _, id := range append(randomIDs(r, 20), list...) {
			if s.Has(id) != slices.Contains(list, id) {
				t.Fatalf("Has(%q) is %v", id, s.Has(id))
			}
		}
	}
}

// A table finds each of many IDs, however their values lie, and no other one.
func TestLookupAmongMany(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 3))
	for _, spread := range []func(i int) uint64{
		func(i int) uint64 { return uint64(i) },
		func(i int) uint64 { return 13_800_000_000 + uint64(i)*7919 },
		func(i int) uint64 { return r.Uint64() >> r.UintN(64) / 2 },
		func(i int) uint64 { return uint64(i%2) * (1e18 + uint64(i)) }, // all in two places
		func(int) uint64 { return r.Uint64N(100) * 1e17 },
	} {
		listed := map[string]bool{"vip-7": true, "007": true}
		for i := range 5000 {
			listed[fmt.Sprint(spread(i))] = true
		}
		table := routing.Compile(mustRules(t, 10, ranges{"a": {{From: 0, To: 9}}}, exact{"b": slices.Collect(maps.Keys(listed))}))
		for id := range listed {
			if got := table.Lookup(id); got.Unit != "b" || !got.Exact {
				t.Fatalf("%s: %+v", id, got)
			}
		}
		for i := range 20_000 {
			id := fmt.Sprint(spread(i) + r.Uint64N(3) - 1)
			if got := table.Lookup(id); got.Exact != listed[id] {
				t.Fatalf("%s: %+v", id, got)
			}
		}
	}
}

// A change makes of one rule set the other one, whatever they are, also by way of JSON.
func TestChange(t *testing.T) {
	eachWorld(t, func(t *testing.T, w world, r *rand.Rand) {
		if w.from.Slotting() != w.to.Slotting() {
			return
		}
		j, err := json.Marshal(routing.ChangeOf(w.from, w.to))
		if err != nil {
			t.Fatal(err)
		}
		var c routing.Change
		if err := json.Unmarshal(j, &c); err != nil {
			t.Fatal(err)
		}
		got, err := w.from.With(c, nil)
		if err != nil || !got.Equal(w.to) {
			t.Fatalf("%s makes %v of %v, want %v: %v", j, got, w.from, w.to, err)
		}
	})
	from := mustRules(t, 10, ranges{"a": {{From: 0, To: 9}}}, exact{"a": {"x"}, "c": {"w"}})
	for _, c := range []routing.Change{
		{Drop: []string{"y"}}, {Drop: []string{"x"}, Exact: exact{"a": {"x"}}}, {Exact: exact{"a": {"z", "z"}}}, {Ranges: ranges{"a": {{From: 0, To: 8}}}},
		{ExactDelta: map[string]routing.Packed{"a": {9}}}, {DropDelta: routing.Packed{1}}, {Exact: exact{"a": {"z"}, "b": {"z"}}},
		{Whole: whole{"b": "a"}}, {Whole: whole{"b": ""}}, {Whole: whole{"a": "a"}}, {Whole: whole{"a": "b"}, Exact: exact{"c": {"x"}}},
		{Whole: whole{"a": ""}, Exact: exact{"b": {"x"}}}, {Whole: whole{"a": "b"}, Drop: []string{"x"}}, {Whole: whole{"a": ""}, Drop: []string{"x"}},
		{Restore: true},
	} {
		if got, err := from.With(c, nil); err == nil {
			t.Errorf("%+v is taken: %v", c, got)
		}
	}
	for _, c := range []routing.Change{{Whole: whole{"a": "b"}}, {Drop: []string{"x"}}, {Exact: exact{"b": {"y"}}}} {
		c.Restore = true
		if got, err := from.With(c, from); err == nil {
			t.Errorf("%+v is taken: %v", c, got)
		}
	}
}

type whole = map[string]string

// A list that is longer than ShortList and goes to one unit, or nowhere, is named and not listed, whatever happens to the
// others; a shorter one, or one of which an ID does something else, is listed. So each change has one form.
func TestChangeOfWholeLists(t *testing.T) {
	long := func(name string, n int) (ids []string) {
		for i := range n {
			ids = append(ids, fmt.Sprintf("%s-%d", name, i))
		}
		return ids
	}
	all := ranges{"a": {{From: 0, To: 9}}}
	a, b, c := long("a", routing.ShortList+1), long("b", routing.ShortList+9), long("c", routing.ShortList)
	from := mustRules(t, 10, all, exact{"a": a, "b": b, "c": c})
	for _, k := range []struct {
		name   string
		to     exact
		whole  whole
		listed int // IDs that are given or dropped by name
	}{
		{"one to one that has none", exact{"d": a, "b": b, "c": c}, whole{"a": "d"}, 0},
		{"one to one that has some", exact{"b": slices.Concat(a, b), "c": c}, whole{"a": "b"}, 0},
		{"two change places", exact{"a": b, "b": a, "c": c}, whole{"a": "b", "b": "a"}, 0},
		{"two to one", exact{"c": slices.Concat(a, b, c)}, whole{"a": "c", "b": "c"}, 0},
		{"in a ring, one is short", exact{"b": a, "c": b, "a": c}, whole{"a": "b", "b": "c"}, len(c)},
		{"one is dropped", exact{"b": b, "c": c}, whole{"a": ""}, 0},
		{"all are dropped", nil, whole{"a": "", "b": ""}, len(c)},
		{"one is dropped and one is new", exact{"a": {"new"}, "b": b, "c": c}, whole{"a": ""}, 1},
		{"one goes, and the other gets more", exact{"b": slices.Concat(a, b), "c": append([]string{"new"}, c...)}, whole{"a": "b"}, 1},
		{"one ID stays", exact{"a": a[:1], "b": slices.Concat(a[1:], b), "c": c}, nil, len(a) - 1},
		{"one ID is dropped", exact{"b": slices.Concat(a[1:], b), "c": c}, nil, len(a)},
		{"the last ID goes elsewhere", exact{"b": slices.Concat(a[:64], b), "c": slices.Concat(a[64:], c)}, nil, len(a)},
		{"one half stays", exact{"a": a[:30], "b": b, "c": c}, nil, len(a) - 30},
		{"one ID is dropped of all", exact{"a": a[1:], "b": b, "c": c}, nil, 1},
		{"nothing happens", exact{"a": a, "b": b, "c": c}, nil, 0},
	} {
		t.Run(k.name, func(t *testing.T) {
			to := mustRules(t, 10, all, k.to)
			change := routing.ChangeOf(from, to)
			set, err := routing.JoinLists(change.Exact, change.ExactDelta)
			if err != nil {
				t.Fatal(err)
			}
			drop, err := routing.JoinList(change.Drop, change.DropDelta)
			if err != nil {
				t.Fatal(err)
			}
			listed := drop.Len()
			for _, ids := range set {
				listed += ids.Len()
			}
			if !maps.Equal(change.Whole, k.whole) || listed != k.listed || change.Restore {
				t.Errorf("%v, and %d IDs are listed; want %v and %d", change.Whole, listed, k.whole, k.listed)
			}
			if got, err := from.With(change, nil); err != nil || !got.Equal(to) {
				t.Errorf("it makes %v of the rules: %v", got, err)
			}
			back := routing.ChangeBack(to, from)
			if got, err := to.With(back, from); err != nil || !got.Equal(from) {
				t.Errorf("the way back makes %v: %v", got, err)
			}
			if long := k.whole != nil || k.listed > routing.ShortList; back.Restore != long {
				t.Errorf("the way back: %+v", back)
			}
		})
	}
}
