package relay

import "time"

// catchUp is how much lateness of its timer a pacer makes good. What was missed beyond that is not caught up, so that a
// stalled process does not evict in a burst what it did not evict in time.
const catchUp = 20 * time.Millisecond

// pacer spaces events evenly on average and each of them at random within its own interval: nothing bursts, neither at
// the start nor later, and several edges that start at the same moment do not beat in time. It has no clock; times are
// durations since any fixed moment.
type pacer struct {
	interval time.Duration
	begins   time.Duration // when the interval of the next event begins
	next     time.Duration // when the next event is due
	within   func(interval time.Duration) time.Duration
}

// newPacer makes a pacer of rate events per second; rate must be positive. within draws from [0, interval).
// The first event comes after half an interval to one and a half.
func newPacer(rate int, now time.Duration, within func(interval time.Duration) time.Duration) pacer {
	p := pacer{interval: max(time.Second/time.Duration(rate), 1), within: within}
	p.from(now + p.interval/2)
	return p
}

// newSpread makes a pacer of n events from now on, the last one within the given time.
func newSpread(n int, over, now time.Duration, within func(interval time.Duration) time.Duration) pacer {
	p := pacer{interval: max(over/time.Duration(n), 1), within: within}
	p.from(now)
	return p
}

func (p *pacer) from(begins time.Duration) {
	p.begins = begins
	p.next = begins + p.within(p.interval)
}

// take is the number of events that are due at now; they count as done.
func (p *pacer) take(now time.Duration) int {
	if now < p.next {
		return 0
	}
	if late := now - p.next; late > max(catchUp, p.interval) {
		p.begins = now // missed; go on from here
	}
	p.begins += p.interval
	past := max((now-p.begins).Nanoseconds()/p.interval.Nanoseconds(), 0) // intervals that are over
	n := 1 + int(past)
	if p.from(p.begins + time.Duration(past*p.interval.Nanoseconds())); p.next <= now {
		n++
		p.from(p.begins + p.interval)
	}
	return n
}
