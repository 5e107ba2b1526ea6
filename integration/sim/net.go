package sim

import "time"

// link is the connection of two nodes.
type link struct{ a, b int }

func between(a, b *node) link { return link{min(a.index, b.index), max(a.index, b.index)} }

// reaches reports whether a message from a to b would pass at this moment. The bus is one more node: without its quorum
// nobody reaches it.
func (w *world) reaches(a, b *node) bool {
	if w.now < w.outage && (a == w.bus || b == w.bus) {
		return false
	}
	return w.now >= w.cuts[between(a, b)]
}

// cut parts two nodes for a while.
func (w *world) cut(a, b *node, d time.Duration) {
	w.trace("%s and %s are parted for %s", a.name, b.name, d)
	w.cuts[between(a, b)] = w.now + d
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
