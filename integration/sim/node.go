package sim

import "time"

// clock is a process's own: it never goes back and runs a little too fast or too slow.
type clock struct {
	base  time.Duration // what it showed at since
	since time.Duration // true time
	rate  float64       // 1 is right
}

func (c *clock) at(now time.Duration) time.Duration {
	return c.base + time.Duration(float64(now-c.since)*c.rate)
}

// turn changes its rate.
func (c *clock) turn(now time.Duration, rate float64) {
	c.base, c.since, c.rate = c.at(now), now, rate
}

// true time until it shows d more.
func (c *clock) until(d time.Duration) time.Duration {
	return time.Duration(float64(d)/c.rate) + time.Nanosecond
}

// node is where one process after another runs: its clock, whether it runs, and how it is connected.
type node struct {
	w      *world
	name   string
	index  int // among all nodes; 0 is the bus
	clock  clock
	wall   time.Duration // what its calendar is off
	life   int           // counts processes: what was meant for an earlier one reaches nobody
	up     bool
	paused bool     // SIGSTOP: nothing is handled, it piles up
	pile   []func() // valid while paused
	late   map[string]bool
}

// now is what the clock shows.
func (n *node) now() time.Duration { return n.clock.at(n.w.now) }

// calendar is what the process takes for the date.
func (n *node) calendar() time.Time { return day.Add(n.w.now + n.wall) }

// mine makes a function that does nothing in a later life, and waits while the process is stopped.
func (n *node) mine(run func()) func() {
	life := n.life
	return func() { n.handle(life, run) }
}

func (n *node) handle(life int, run func()) {
	switch {
	case !n.up || n.life != life:
	case n.paused:
		n.pile = append(n.pile, run)
	default:
		run()
	}
}

// every calls run at every period of the node's clock. A timer that is due while the process is stopped fires once, late.
func (n *node) every(what string, period time.Duration, run func()) {
	life := n.life
	var again func()
	again = func() {
		if !n.up || n.life != life {
			return
		}
		if n.paused {
			if !n.late[what] {
				n.late[what] = true
				n.pile = append(n.pile, func() { delete(n.late, what); run() })
			}
		} else {
			run()
		}
		n.w.after(n.clock.until(period), again)
	}
	n.w.after(n.clock.until(n.w.span(period)), again)
}

// after calls run when the node's clock shows d more.
func (n *node) after(d time.Duration, run func()) { n.w.after(n.clock.until(d), n.mine(run)) }

func (n *node) start() {
	n.life++
	n.up, n.paused, n.pile, n.late = true, false, nil, map[string]bool{}
}

func (n *node) stop() { n.up, n.paused, n.pile = false, false, nil }

// freeze stops the process for a while.
func (n *node) freeze(d time.Duration) {
	if !n.up || n.paused {
		return
	}
	n.w.trace("%s is stopped for %s", n.name, d)
	n.paused = true
	life := n.life
	n.w.after(d, func() {
		if n.life != life || !n.up {
			return
		}
		n.w.trace("%s goes on", n.name)
		n.paused = false
		for len(n.pile) > 0 && n.up && n.life == life && !n.paused {
			run := n.pile[0]
			n.pile = n.pile[1:]
			run()
			n.w.check()
		}
	})
}
