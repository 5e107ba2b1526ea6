package sim

import "time"

// link is one direction of a connection.
type link struct{ from, to int }

// reaches reports whether a message from a to b would pass at this moment. The bus is one more node: without its quorum
// nobody reaches it.
func (w *world) reaches(a, b *node) bool {
	if w.now < w.outage && (a == w.bus || b == w.bus) {
		return false
	}
	return w.now >= w.cuts[link{a.index, b.index}]
}

// talks reports whether a request and its answer would pass.
func (w *world) talks(a, b *node) bool { return w.reaches(a, b) && w.reaches(b, a) }

// cut parts two nodes for a while, now and then in one direction only.
func (w *world) cut(a, b *node, d time.Duration) {
	w.cuts[link{a.index, b.index}] = w.now + d
	if w.chance(0.25) {
		w.trace("%s does not reach %s for %s", a.name, b.name, d)
		return
	}
	w.trace("%s and %s are parted for %s", a.name, b.name, d)
	w.cuts[link{b.index, a.index}] = w.now + d
}

// send delivers a message later, never, or twice: what the bus's core gives.
func (w *world) send(from, to *node, deliver func()) {
	if !w.reaches(from, to) {
		w.hit(lost)
		return
	}
	arrive := func() {
		if w.reaches(from, to) {
			to.handle(to.life, deliver) // whoever listens there by then
		}
	}
	delay := w.latency()
	if w.faulty() {
		if w.take(lost) || w.chance(w.plan.lose) {
			w.hit(lost)
			return
		}
		if w.take(late) || w.chance(w.plan.late) {
			w.hit(late)
			delay = w.span(w.plan.lateness)
		}
		if w.take(doubled) || w.chance(w.plan.double) {
			w.hit(doubled)
			w.after(w.span(w.plan.lateness), arrive)
		}
	}
	w.after(delay, arrive)
}

// latency is how long a message is under way as a rule.
func (w *world) latency() time.Duration { return 200*time.Microsecond + w.span(15*time.Millisecond) }

// take reports whether a fault was aimed at this opportunity.
func (w *world) take(f Fault) bool {
	if !w.forced[f] {
		return false
	}
	delete(w.forced, f)
	return true
}
