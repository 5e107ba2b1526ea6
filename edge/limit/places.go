package limit

import (
	"container/heap"
	"net/netip"
	"sync"
)

// PlaceBytes is what one place has room for: a handshake of so many bytes takes one, a longer one several. Heads of clients
// that mean it are shorter, and the sum of all that is kept is bounded by it.
const PlaceBytes = 3 << 10

// Places are dealt out to handshakes that wait. As long as there are some left, whoever comes gets what it needs. When
// there are none, the address that has the most gives way: its newest one, to those that have waited for less. So however
// many handshakes an address has, it takes nothing from addresses that have fewer; one with more than its share keeps what
// the others do not need. Addresses count as in a Gate.
//
// Methods may be called concurrently. O is the owner of a place, who is told when it is lost.
type Places[O any] struct {
	max int

	mu      sync.Mutex // guards what follows
	used    int
	tenants map[netip.Addr]*tenant[O]
	busiest tenants[O]
}

// Place is what one handshake has. The zero value is none; its owner keeps it and gives it back with Leave.
type Place[O any] struct {
	owner      O
	of         *tenant[O] // nil: it is none, or lost
	size       int        // places
	prev, next *Place[O]  // of the same tenant, next is newer
}

// tenant is an address with places.
type tenant[O any] struct {
	addr   netip.Addr
	used   int
	newest *Place[O]
	index  int // in busiest
}

// NewPlaces makes so many.
func NewPlaces[O any](n int) *Places[O] {
	return &Places[O]{max: n, tenants: map[netip.Addr]*tenant[O]{}}
}

// Take gives a handshake of so many bytes its places, if there are enough or another address has to give way. lost are the
// owners of those that did. With crowded it takes them only in the place of others, because there is no room elsewhere.
func (ps *Places[O]) Take(p *Place[O], owner O, addr netip.Addr, bytes int, crowded bool) (lost []O, ok bool) {
	size := max(1, (bytes+PlaceBytes-1)/PlaceBytes)
	addr = customer(addr)
	ps.mu.Lock()
	defer ps.mu.Unlock()
	t := ps.tenants[addr]
	mine := size
	if t != nil {
		mine += t.used
	}
	for crowded && len(lost) == 0 || ps.used+size > ps.max {
		if len(ps.busiest) == 0 || ps.busiest[0].used <= mine || ps.busiest[0] == t {
			return lost, false // what it took from others meanwhile, they had too much of
		}
		gives := ps.busiest[0].newest
		lost = append(lost, gives.owner)
		ps.remove(gives)
	}
	if t == nil {
		t = &tenant[O]{addr: addr}
		ps.tenants[addr] = t
		heap.Push(&ps.busiest, t)
	}
	*p = Place[O]{owner: owner, of: t, size: size, prev: t.newest}
	if t.newest != nil {
		t.newest.next = p
	}
	t.newest = p
	t.used += size
	ps.used += size
	heap.Fix(&ps.busiest, t.index)
	return lost, true
}

// Leave gives a place back. It may be called again, or for one that was lost, and does nothing then.
func (ps *Places[O]) Leave(p *Place[O]) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	if p.of != nil {
		ps.remove(p)
	}
}

// Has reports whether p was not lost.
func (ps *Places[O]) Has(p *Place[O]) bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return p.of != nil
}

// Used is how many are taken.
func (ps *Places[O]) Used() int {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.used
}

func (ps *Places[O]) remove(p *Place[O]) {
	t := p.of
	if p.prev != nil {
		p.prev.next = p.next
	}
	if p.next != nil {
		p.next.prev = p.prev
	} else {
		t.newest = p.prev
	}
	t.used -= p.size
	ps.used -= p.size
	if t.newest == nil {
		heap.Remove(&ps.busiest, t.index)
		delete(ps.tenants, t.addr)
	} else {
		heap.Fix(&ps.busiest, t.index)
	}
	*p = Place[O]{}
}

// tenants is a heap with the one on top that uses most.
type tenants[O any] []*tenant[O]

func (h tenants[O]) Len() int           { return len(h) }
func (h tenants[O]) Less(i, j int) bool { return h[i].used > h[j].used }
func (h tenants[O]) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

func (h *tenants[O]) Push(x any) {
	t := x.(*tenant[O])
	t.index = len(*h)
	*h = append(*h, t)
}

func (h *tenants[O]) Pop() any {
	last := len(*h) - 1
	t := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	return t
}
