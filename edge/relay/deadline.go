package relay

import "time"

// fifo holds sessions in the order in which their deadlines pass. All deadlines of one fifo have the same length, so a
// new one belongs at the end: no heap, no timer per connection. The engine that owns it is the only one to touch it.
// Times are durations since the engine started.
type fifo struct {
	timeout     time.Duration
	first, last *deadline
}

// deadline is the place of one session in at most one fifo.
type deadline struct {
	s          *session
	at         time.Duration
	in         *fifo
	prev, next *deadline
}

// start makes d pass timeout after now, whatever it was doing before.
func (q *fifo) start(d *deadline, now time.Duration) {
	d.stop()
	d.at, d.in = now+q.timeout, q
	// From the end: now is nearly always the latest time seen.
	after := q.last
	for after != nil && after.at > d.at {
		after = after.prev
	}
	d.prev = after
	if after != nil {
		d.next, after.next = after.next, d
	} else {
		d.next, q.first = q.first, d
	}
	if d.next != nil {
		d.next.prev = d
	} else {
		q.last = d
	}
}

// stop takes d out of its fifo, if it is in one.
func (d *deadline) stop() {
	q := d.in
	if q == nil {
		return
	}
	if d.prev != nil {
		d.prev.next = d.next
	} else {
		q.first = d.next
	}
	if d.next != nil {
		d.next.prev = d.prev
	} else {
		q.last = d.prev
	}
	d.in, d.prev, d.next = nil, nil, nil
}

// expired takes out the first deadline that has passed at now; nil if there is none.
func (q *fifo) expired(now time.Duration) *deadline {
	d := q.first
	if d == nil || d.at > now {
		return nil
	}
	d.stop()
	return d
}

// start sets the deadline of a session.
func (e *engine) start(q *fifo, s *session) {
	q.start(&s.deadline, e.now())
	e.schedule(s.deadline.at)
}

// schedule has tick run at the given time or before.
func (e *engine) schedule(at time.Duration) {
	if e.wakeAt != 0 && e.wakeAt <= at {
		return
	}
	e.wakeAt = at
	e.timer.Reset(max(at-e.now(), 0))
}

// tickSteps bounds what one look at the mailbox does about the deadlines of one queue.
const tickSteps = sliceSteps / 4

// tick handles the deadlines that have passed, of many that pass together some now and the others in the next looks.
func (e *engine) tick() {
	now := e.now()
	sessions := [...]*fifo{
		&e.heads, &e.held, &e.connects, &e.bodies, &e.lingering, &e.parted, &e.aborting, &e.evicting, &e.leaving,
	}
	for _, queues := range [...][]*fifo{sessions[:], e.replies} {
		for _, q := range queues {
			e.expire(q, now)
		}
	}
	if e.watch.expired(now) != nil {
		e.watchCongested()
	}
	if e.looks.expired(now) != nil {
		e.lookAtOwing()
	}
	if e.pauses.expired(now) != nil {
		e.rested()
	}
	more := false
	for _, queues := range [...][]*fifo{sessions[:], e.replies} {
		for _, q := range queues {
			more = e.scheduleFirst(q, now) || more
		}
	}
	for _, q := range [...]*fifo{&e.watch, &e.pauses, &e.looks} {
		more = e.scheduleFirst(q, now) || more
	}
	if more {
		e.knock()
	}
}

// expire handles the deadlines of a queue that have passed, up to so many.
func (e *engine) expire(q *fifo, now time.Duration) {
	for steps := tickSteps; steps > 0; steps -= stepEnd {
		d := q.expired(now)
		if d == nil {
			return
		}
		e.expired(d.s)
	}
}

// scheduleFirst has tick run for the first deadline of a queue, and reports whether that has passed already.
func (e *engine) scheduleFirst(q *fifo, now time.Duration) bool {
	if q.first == nil {
		return false
	}
	if q.first.at <= now {
		return true
	}
	e.schedule(q.first.at)
	return false
}
