package origin

import (
	"cmp"
	"slices"
	"sync"
	"time"
)

// List are the origins of one URI, as the configuration has them.
type List struct {
	Addresses []string // HOST:PORT
	Check     Check
}

// Group is a List whose origins are known. It is immutable; a new configuration makes a new one, of the same origins as
// far as they stay.
type Group struct{ origins []*Origin }

// Book knows all origins of an edge. The zero value is ready to use.
type Book struct {
	mu      sync.Mutex         // guards what follows
	loads   map[string]*load   // of every address that stands in one of the others
	origins map[name]*Origin   // those of the configuration
	removed map[string]*Origin // by address: those that no list has any more, but that may have connections
}

// name is what an origin is known by. One address that is watched in two ways is two origins with one count of
// connections.
type name struct {
	addr  string
	check Check
}

// Update makes the groups of a new configuration, one for each list. An origin that was there before, watched in the same
// way, stays what it is. A new one is healthy until it proves otherwise. One that no list has any more is not chosen
// again by the new groups; its connections stay, and count until they end.
func (b *Book) Update(lists []List) []*Group {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.loads == nil {
		b.loads, b.removed = map[string]*load{}, map[string]*Origin{}
	}
	b.forget()
	before := b.origins
	b.origins = map[name]*Origin{}
	for _, o := range before {
		b.removed[o.addr] = o
	}
	groups := make([]*Group, len(lists))
	for i, l := range lists {
		g := &Group{origins: make([]*Origin, 0, len(l.Addresses))}
		for _, addr := range l.Addresses {
			if o := b.take(name{addr, l.Check}, before); !slices.Contains(g.origins, o) {
				g.origins = append(g.origins, o)
			}
		}
		groups[i] = g
	}
	return groups
}

// take enters an origin in b.origins.
func (b *Book) take(k name, before map[name]*Origin) *Origin {
	delete(b.removed, k.addr)
	o := b.origins[k]
	if o == nil {
		o = before[k]
	}
	if o == nil {
		if b.loads[k.addr] == nil {
			b.loads[k.addr] = &load{}
		}
		o = newOrigin(k.addr, k.check, b.loads[k.addr])
	}
	b.origins[k] = o
	return o
}

// forget drops the removed origins without connections. They get no new ones: what removed them was installed in every
// engine before the present Update began.
func (b *Book) forget() {
	for addr, o := range b.removed {
		if o.load.n.Load() == 0 {
			delete(b.removed, addr)
			delete(b.loads, addr)
		}
	}
}

// Origins are those of the configuration, in no order.
func (b *Book) Origins() []*Origin {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]*Origin, 0, len(b.origins))
	for _, o := range b.origins {
		out = append(out, o)
	}
	return out
}

// Pick chooses the origin with the fewest connections among those that are healthy, and counts one more for it; Release
// ends that. Those in tried are left out. turn should grow with every call: of origins with equally many connections each
// gets its turn. If none is healthy, all the others are as good as any: a wrong belief must not turn clients away. It
// returns nil only if all have been tried.
func (g *Group) Pick(now time.Duration, turn uint32, tried []*Origin) *Origin {
	for {
		o, barred := g.least(now, turn, tried)
		if o == nil {
			break
		}
		// On trial only one session goes there at a time: while others come, it looks ejected to them.
		if barred == 0 || o.barred.CompareAndSwap(barred, int64(now+trialTime)) {
			o.load.n.Add(1)
			return o
		}
	}
	o, _ := g.least(never, turn, tried)
	if o != nil {
		o.load.n.Add(1)
	}
	return o
}

// Look chooses one as Pick does, for a connection that is to tell nothing of the origin's health: it is nobody's trial, so
// that none is held up by it.
func (g *Group) Look(now time.Duration, turn uint32, tried []*Origin) *Origin {
	o, _ := g.least(now, turn, tried)
	if o == nil {
		o, _ = g.least(never, turn, tried)
	}
	if o != nil {
		o.load.n.Add(1)
	}
	return o
}

// least is the origin with the fewest connections among those that are not barred at now, and its barred.
func (g *Group) least(now time.Duration, turn uint32, tried []*Origin) (best *Origin, barred int64) {
	var fewest int64
	n := len(g.origins)
	for i := range n {
		o := g.origins[(int(turn%uint32(n))+i)%n]
		until := o.barred.Load()
		if until > int64(now) || slices.Contains(tried, o) {
			continue
		}
		if c := o.load.n.Load(); best == nil || c < fewest {
			best, barred, fewest = o, until, c
		}
	}
	return best, barred
}

// Status is what is believed of one origin.
type Status struct {
	Address  string  `json:"address"`
	State    string  `json:"state"`               // healthy, ejected, trial, down (say the probes), removed (from the configuration)
	Sessions int64   `json:"sessions"`            // connections to the address, those still being made included
	Probe    string  `json:"probe"`               // none, tcp or http
	Failures int     `json:"failures,omitempty"`  // in a row, without an answer in between
	Ejected  float64 `json:"ejected,omitempty"`   // seconds until it is tried again
	Error    string  `json:"lastError,omitempty"` // the last one, however long ago
	ErrorAge float64 `json:"lastErrorAge,omitempty"`

	// Of the address, also by other URIs' probes.
	Connects    int64         `json:"-"` // ever
	ConnectTime time.Duration `json:"-"` // of all of them together
	Failed      int64         `json:"-"` // sessions that it did not answer, ever
}

// Status lists the origins by address. Removed ones are in it while they have connections.
func (b *Book) Status(now time.Duration) []Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := []Status{}
	for _, o := range b.origins {
		out = append(out, o.status(now))
	}
	for _, o := range b.removed {
		if st := o.status(now); st.Sessions > 0 {
			st.State, st.Ejected = "removed", 0
			out = append(out, st)
		}
	}
	slices.SortFunc(out, func(a, b Status) int { return cmp.Or(cmp.Compare(a.Address, b.Address), cmp.Compare(a.Probe, b.Probe)) })
	return out
}

func (o *Origin) status(now time.Duration) Status {
	o.mu.Lock()
	defer o.mu.Unlock()
	st := Status{Address: o.addr, State: "healthy", Sessions: o.load.n.Load(), Probe: cmp.Or(o.check.Probe, "none"), Failures: o.health.failures, Error: o.lastErr,
		Connects: o.load.connects.Load(), ConnectTime: time.Duration(o.load.connecting.Load()), Failed: o.load.failures.Load()}
	switch h := &o.health; {
	case h.down:
		st.State = "down"
	case h.until > now:
		st.State, st.Ejected = "ejected", (h.until - now).Seconds()
	case h.until > 0:
		st.State = "trial"
	}
	if o.lastErr != "" {
		st.ErrorAge = (now - o.errAt).Seconds()
	}
	return st
}
