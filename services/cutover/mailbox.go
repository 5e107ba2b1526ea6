package cutover

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// What one edge's messages may cost the control plane.
const (
	maxEdgeMessage = 64 << 10 // bytes of a report or of a request for a lease; a large edge's has 3 KiB
	edgeBurst      = 16       // messages of one edge and kind that are read at once
	edgeEvery      = 50 * time.Millisecond
)

// mailbox keeps the newest message of each registered edge and kind until the manager has
// time for it, because an edge repeats all that counts (R6). So an edge that floods its
// subjects takes the place of its own messages only, and no memory: beyond edgeBurst, one of
// its messages is read every edgeEvery. What no registered edge of that unit sends is dropped
// unread. (Whoever may publish in an edge's name can still take its place here: NATS permits
// that to the edge's own user only, where each has one.)
//
// put may be called from any goroutine; one goroutine runs.
type mailbox struct {
	known func(unit, edge string) bool
	clock func() time.Duration // never goes back

	mu    sync.Mutex // guards the rest
	boxes map[boxKey]*box
	queue []*box // those with a message, in the order in which they came
	more  chan struct{}

	dropped map[string]uint64 // messages that were not read, by why
}

type boxKey struct{ unit, edge, kind string }

// box is one edge's place.
type box struct {
	msg    *nats.Msg     // newest, nil: none waits
	credit time.Duration // as of at: one message may be read for each edgeEvery
	at     time.Duration
}

// Why a message was not read.
const (
	droppedUnknown  = "unknown_edge"
	droppedLarge    = "too_large"
	droppedReplaced = "replaced" // by a newer one of the same edge
	droppedForm     = "bad_form"
	droppedUnsigned = "bad_signature"
)

func newMailbox(known func(unit, edge string) bool, clock func() time.Duration) *mailbox {
	return &mailbox{known: known, clock: clock, boxes: map[boxKey]*box{}, more: make(chan struct{}, 1), dropped: map[string]uint64{
		droppedUnknown: 0, droppedLarge: 0, droppedReplaced: 0, droppedForm: 0, droppedUnsigned: 0,
	}}
}

// put takes a message of "unitgate.edge.<namespace>.<unit>.<edge>.<kind>". It costs little,
// whatever comes: it runs for every message of every edge.
func (b *mailbox) put(m *nats.Msg) {
	t := strings.Split(m.Subject, ".")
	if len(t) != 6 {
		b.drop(droppedForm)
		return
	}
	k := boxKey{t[3], t[4], t[5]}
	switch {
	case len(m.Data) > maxEdgeMessage:
		b.drop(droppedLarge)
		return
	case !b.known(k.unit, k.edge):
		b.drop(droppedUnknown)
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	x := b.boxes[k]
	if x == nil {
		x = &box{credit: edgeBurst * edgeEvery, at: b.clock()}
		b.boxes[k] = x
	}
	if x.msg == nil {
		b.queue = append(b.queue, x)
	} else {
		b.dropped[droppedReplaced]++
	}
	x.msg = m
	select {
	case b.more <- struct{}{}:
	default:
	}
}

func (b *mailbox) drop(why string) {
	b.mu.Lock()
	b.dropped[why]++
	b.mu.Unlock()
}

// take is the next message that may be read, nil if there is none; then wait is how long it
// takes until one may, 0 if none waits.
func (b *mailbox) take() (m *nats.Msg, wait time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := b.clock()
	for i, x := range b.queue {
		x.credit, x.at = min(x.credit+now-x.at, edgeBurst*edgeEvery), now
		if x.credit < edgeEvery {
			if left := edgeEvery - x.credit; wait == 0 || left < wait {
				wait = left
			}
			continue
		}
		x.credit -= edgeEvery
		m, x.msg = x.msg, nil
		b.queue = slices.Delete(b.queue, i, i+1)
		return m, 0
	}
	return nil, wait
}

// forget drops the places of edges that are not registered any more.
func (b *mailbox) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for k, x := range b.boxes {
		if x.msg == nil && !b.known(k.unit, k.edge) {
			delete(b.boxes, k)
		}
	}
}

// counts are the messages that were not read so far, by why.
func (b *mailbox) counts() map[string]uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.dropped)
}

// run reads messages until done is closed.
func (b *mailbox) run(done <-chan struct{}, read func(*nats.Msg)) {
	tidy := time.NewTicker(time.Minute)
	defer tidy.Stop()
	for {
		m, wait := b.take()
		if m != nil {
			read(m)
			continue
		}
		var later <-chan time.Time
		if wait > 0 {
			later = time.After(wait)
		}
		select {
		case <-done:
			return
		case <-b.more:
		case <-later:
		case <-tidy.C:
			b.forget()
		}
	}
}
