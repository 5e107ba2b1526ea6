package limit

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
)

// hall is places whose owners are numbers.
type hall struct {
	*Places[int]
	t    *testing.T
	n    int
	have map[int]*Place[int] // by owner
}

func newHall(t *testing.T, n int) *hall {
	return &hall{Places: NewPlaces[int](n), t: t, have: map[int]*Place[int]{}}
}

// take is a handshake that comes; 0: it is refused.
func (h *hall) take(addr netip.Addr, bytes int, crowded bool) (owner int, lost []int) {
	h.n++
	p := new(Place[int])
	lost, ok := h.Take(p, h.n, addr, bytes, crowded)
	for _, o := range lost {
		if h.Has(h.have[o]) {
			h.t.Fatalf("%d has lost its place and has it", o)
		}
		delete(h.have, o)
	}
	if !ok {
		return 0, lost
	}
	h.have[h.n] = p
	return h.n, lost
}

func (h *hall) want(addr netip.Addr, bytes int, ok bool, lost ...int) (owner int) {
	h.t.Helper()
	owner, got := h.take(addr, bytes, false)
	if (owner != 0) != ok || !slices.Equal(got, lost) {
		h.t.Fatalf("%v with %d bytes: %d, lost %v; want %v, lost %v", addr, bytes, owner, got, ok, lost)
	}
	return owner
}

// While there is room nobody is refused, whatever an address has; when there is none, the newest of the busiest gives way,
// until nobody has more than who comes.
func TestPlacesAreShared(t *testing.T) {
	three := netip.MustParseAddr("192.0.2.3")
	h := newHall(t, 6)
	var ones []int
	for range 6 {
		ones = append(ones, h.want(one, 1, true))
	}
	h.want(one, 1, false)
	h.want(two, 1, true, ones[5])
	h.want(one, 1, false)
	h.want(two, 1, true, ones[4])
	twos := h.want(two, 1, true, ones[3])
	h.want(two, 1, false) // three each
	h.want(three, 1, true, ones[2])
	h.want(three, 1, true, twos)
	h.want(three, 1, false) // two each
	h.Leave(h.have[ones[0]])
	h.Leave(h.have[ones[0]]) // twice is once
	h.want(two, 1, true)
	if n := h.Used(); n != 6 {
		t.Errorf("%d are used", n)
	}
}

// What is long takes several places, so that the bytes have a bound in sum; and an address cannot help itself by many
// addresses of one customer.
func TestPlacesBySize(t *testing.T) {
	h := newHall(t, 7)
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	long1, long2 := h.want(a, 2*PlaceBytes+1, true), h.want(b, 3*PlaceBytes, true)
	h.want(a, PlaceBytes, true)
	h.want(b, 1, false)
	h.want(one, PlaceBytes+1, true, h.n-1, long2)
	h.want(one, PlaceBytes, true)
	h.want(two, 1, true)
	h.want(two, 1, true, long1) // three are more than two
	if h.Used() != 5 {
		t.Errorf("%d are used", h.Used())
	}
}

// Without room elsewhere, one comes only in the place of another.
func TestPlacesInACrowd(t *testing.T) {
	h := newHall(t, 10)
	if o, _ := h.take(one, 1, true); o != 0 {
		t.Error("nobody gave way")
	}
	first, second := h.want(one, 1, true), h.want(one, 1, true)
	if o, lost := h.take(two, 1, true); o == 0 || !slices.Equal(lost, []int{second}) {
		t.Errorf("%d, lost %v", o, lost)
	}
	if o, _ := h.take(two, 1, true); o != 0 {
		t.Error("one each is even")
	}
	if !h.Has(h.have[first]) {
		t.Error("the first one is gone")
	}
}

// With any addresses and sizes: no more is used than there is, and an address that is refused has as much as any other.
func TestPlacesAtRandom(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		h := newHall(t, 1+rnd.IntN(60))
		from := 1 + rnd.IntN(12)
		for range 2000 {
			if len(h.have) > 0 && rnd.IntN(3) == 0 {
				for o, p := range h.have { // any
					h.Leave(p)
					delete(h.have, o)
					break
				}
				continue
			}
			// Some addresses come far more often.
			addr, bytes := address(min(rnd.IntN(from), rnd.IntN(from))), rnd.IntN(3*PlaceBytes)
			o, _ := h.take(addr, bytes, false)
			used, most := map[netip.Addr]int{}, 0
			sum := 0
			for _, p := range h.have {
				used[p.of.addr] += p.size
				sum += p.size
				most = max(most, used[p.of.addr])
			}
			if sum != h.Used() || sum > h.max {
				t.Fatalf("%d are used, says %d, of %d", sum, h.Used(), h.max)
			}
			size := max(1, (bytes+PlaceBytes-1)/PlaceBytes)
			if o == 0 && size <= h.max && most > used[addr]+size {
				t.Fatalf("%v was refused with %d and %d more, and another one has %d", addr, used[addr], size, most)
			}
		}
		for _, p := range h.have {
			h.Leave(p)
		}
		if h.Used() != 0 || len(h.tenants) != 0 || len(h.busiest) != 0 {
			t.Fatalf("%d used, %d addresses", h.Used(), len(h.tenants))
		}
	}
}

func TestPlacesConcurrently(t *testing.T) {
	ps := NewPlaces[string](100)
	var all sync.WaitGroup
	for w := range 8 {
		all.Go(func() {
			mine := make([]Place[string], 50)
			for i := range 5000 {
				p := &mine[i%len(mine)]
				ps.Leave(p)
				ps.Take(p, fmt.Sprint(w), address(w%4), i%8000, i%7 == 0)
			}
			for i := range mine {
				ps.Leave(&mine[i])
			}
		})
	}
	all.Wait()
	if ps.Used() != 0 || len(ps.tenants) != 0 {
		t.Errorf("%d are used, by %d addresses", ps.Used(), len(ps.tenants))
	}
}
