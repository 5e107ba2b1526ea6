package relay

import "time"

// catchUp is how much lateness of its timer a pacer makes good. What was missed beyond that is not caught up, so that a
// stalled process does not evict in a burst what it did not evict in time.
const catchUp = 20 * time.Millisecond

// pacer spaces events evenly: the first one interval after the start, so that nothing bursts. It has no clock; times
// are durations since any fixed moment.
type pacer struct {
	interval time.Duration
	next     time.Duration // when the next event is due
}

// newPacer makes a pacer of rate events per second; rate must be positive.
func newPacer(rate int, now time.Duration) pacer {
	p := pacer{interval: max(time.Second/time.Duration(rate), 1)}
	p.next = now + p.interval
	return p
}

// take is the number of events that are due at now; they count as done.
func (p *pacer) take(now time.Duration) int {
	if now < p.next {
		return 0
	}
	if late := now - p.next; late > max(catchUp, p.interval) {
		p.next = now // missed; go on from here
	}
	n := 1 + int((now-p.next)/p.interval)
	p.next += time.Duration(n) * p.interval
	return n
}
