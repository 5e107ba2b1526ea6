package session

import (
	"cmp"
	"hash/fnv"
	"io"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

const (
	// maxUsers bounds the users on each side of a Passage. Beyond it those with the smallest numbers stay: every edge
	// makes the same choice, so that what two of them remember of one user can be laid side by side.
	maxUsers = 8192
	// maxSeen bounds the sessions of one user that are remembered.
	maxSeen = 4
)

// Passage remembers, for one cutover, which users an edge has evicted and which it has admitted on keys that had moved
// to it, and when. Its memory is bounded. Any number of goroutines may use it; it is entered once for an eviction and
// once for a landing, never for what else sessions do.
type Passage struct {
	Cutover string
	// Whole reports whether it began before the cutover's first fence was decided by, so that nothing is missing.
	Whole bool

	mu            sync.Mutex // guards what follows
	left, back    side
	nLeft, nBack  int // sessions, also of users that are not remembered
	maxUsersInUse int // for tests; 0: maxUsers
}

// side is one side of a passage. The zero value remembers everybody.
type side struct {
	users map[uint64]seen
	above bool   // some were forgotten: those whose number is above bound
	bound uint64 // valid if above
}

// seen is what is remembered of one user: the times of the sessions under one fence.
type seen struct {
	fence uint64
	n     int
	at    [maxSeen]time.Duration
}

// Sighting is a user's session that was evicted, or has landed.
type Sighting struct {
	User uint64 // see UserNumber
	At   time.Duration
}

// UserNumber stands for a user in what is told of a cutover: no routerId leaves an edge. Numbers are spread evenly.
func UserNumber(cutover, routerID string) uint64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, cutover)
	_, _ = h.Write([]byte{0})
	_, _ = io.WriteString(h, routerID)
	n := h.Sum64()
	n ^= n >> 33
	n *= 0xff51afd7ed558ccd // MurmurHash3's finalizer: FNV alone leaves neighbours beside each other
	n ^= n >> 33
	n *= 0xc4ceb9fe1a85ec53
	return n ^ n>>33
}

// Left notes that a session was evicted under the fence with this sequence. An older fence's evictions of the user count
// no more: it was lifted, and the user came back to where it had been.
func (p *Passage) Left(routerID string, fence uint64, at time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nLeft++
	p.left.note(UserNumber(p.Cutover, routerID), fence, at, cmp.Or(p.maxUsersInUse, maxUsers))
}

// Back notes that a session was admitted on a key that moved under the fence with this sequence.
func (p *Passage) Back(routerID string, fence uint64, at time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.nBack++
	p.back.note(UserNumber(p.Cutover, routerID), fence, at, cmp.Or(p.maxUsersInUse, maxUsers))
}

func (s *side) note(user, fence uint64, at time.Duration, most int) {
	if s.above && user > s.bound {
		return
	}
	if s.users == nil {
		s.users = map[uint64]seen{}
	}
	v := s.users[user]
	if v.fence != fence {
		v = seen{fence: fence}
	}
	if v.n < maxSeen {
		v.at[v.n] = at
		v.n++
	}
	s.users[user] = v
	for len(s.users) > most {
		if !s.above {
			s.above, s.bound = true, math.MaxUint64
		}
		s.bound /= 2
		maps.DeleteFunc(s.users, func(user uint64, _ seen) bool { return user > s.bound })
	}
}

// Counts are the sessions evicted for the cutover, and those that have landed on its moved keys.
func (p *Passage) Counts() (left, back int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nLeft, p.nBack
}

// List is what is remembered under these fences of the users up to a bound: at most so many on each side, all of them if
// the bound allows. Users beyond the bound may have been seen or not.
func (p *Passage) List(fences []uint64, most int) (bound uint64, left, back []Sighting) {
	bound = math.MaxUint64
	var sides [2]map[uint64]seen
	p.mu.Lock()
	for i, s := range []*side{&p.left, &p.back} {
		if s.above {
			bound = min(bound, s.bound)
		}
		sides[i] = maps.Clone(s.users)
	}
	p.mu.Unlock() // pollers need not wait for the rest
	for _, users := range sides {
		maps.DeleteFunc(users, func(_ uint64, v seen) bool { return !slices.Contains(fences, v.fence) })
		if len(users) > most {
			bound = min(bound, slices.Sorted(maps.Keys(users))[most-1])
		}
	}
	return bound, list(sides[0], bound), list(sides[1], bound)
}

func list(users map[uint64]seen, bound uint64) []Sighting {
	var out []Sighting
	for user, v := range users {
		if user > bound {
			continue
		}
		for _, at := range v.at[:v.n] {
			out = append(out, Sighting{user, at})
		}
	}
	slices.SortFunc(out, func(a, b Sighting) int { return cmp.Or(cmp.Compare(a.User, b.User), cmp.Compare(a.At, b.At)) })
	return out
}
