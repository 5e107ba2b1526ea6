package relay

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A chore is work of a poller that is as long as some list: of sessions, of handshakes that are held, of keys that a question
// names. It is done a slice at a time, and between two slices the poller looks at its connections, so that nothing that
// an operator, the control plane or a thousand clients at once ask for keeps the others waiting.
//
// It is called with how many steps it may take, takes from them what it does, and reports whether it is done. It may go
// beyond them by one thing, and has to do something when it is called. BenchmarkSteps shows what things cost.
type chore func(steps *int) (done bool)

// Steps are worth ten nanoseconds each at most; see also those of registry.Walk.
const (
	// sliceSteps bounds a slice, of which there are two at most in one look at the mailbox: a third of a millisecond each.
	sliceSteps = 1 << 15

	stepLookup   = 32   // to look up one routerId in rules, or in a long list of exact IDs
	stepProbe    = 128  // to ask the kernel about a connection
	stepRedecide = 256  // to decide a handshake
	stepEnd      = 1024 // to end a session, or to begin with that: it writes, or is closed
	stepDecide   = 4096 // to let a handshake in or turn it away: it dials, or is answered
)

// chores are a poller's. The poller owns them.
type chores struct {
	short []chore // those that take turns

	// Those that walk through the sessions come one after the other, so that none meets what another has left half done. An
	// install goes before questions, but not before one that has begun.
	installs, questions []chore
	walk                chore // the one that has begun; nil: none has
}

func (c *chores) idle() bool {
	return c.walk == nil && len(c.short)+len(c.installs)+len(c.questions) == 0
}

// slice does some of the chores: a slice of those that take turns, and one of those that do not. It is how many steps they
// have taken.
func (c *chores) slice() (taken int) { return c.turns() + c.walks() }

func (c *chores) turns() int {
	steps := sliceSteps
	for steps > 0 && len(c.short) > 0 {
		do := c.short[0]
		c.short = append(c.short[:0], c.short[1:]...)
		if !do(&steps) {
			c.short = append(c.short, do)
		}
	}
	return sliceSteps - steps
}

func (c *chores) walks() int {
	steps := sliceSteps
	for steps > 0 {
		switch {
		case c.walk != nil:
		case len(c.installs) > 0:
			c.walk, c.installs = c.installs[0], c.installs[1:]
		case len(c.questions) > 0:
			c.walk, c.questions = c.questions[0], c.questions[1:]
		default:
			return sliceSteps - steps
		}
		if c.walk(&steps) {
			c.walk = nil
		}
	}
	return sliceSteps - steps
}

// doChores does a slice of what there is to do, and has the poller come back for the rest.
func (e *engine) doChores() {
	if e.chores.idle() {
		return
	}
	runtime.LockOSThread() // no other goroutine's time is to count
	began := threadTime()
	steps := e.chores.slice()
	took := threadTime() - began
	runtime.UnlockOSThread()
	if e.r.cfg.Observers.Slice != nil {
		e.r.cfg.Observers.Slice(took, steps)
	}
	if !e.chores.idle() {
		e.knock()
	}
}

// threadTime is how long the calling thread has run on a processor.
func threadTime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) // it is there
	return time.Duration(t.Nano())
}

// takeTurns adds a chore that takes turns with others. The poller calls it.
func (e *engine) takeTurns(c chore) {
	if e.chores.idle() {
		e.knock()
	}
	e.chores.short = append(e.chores.short, c)
}

// queue adds a chore that walks through the sessions. Anybody may call it; see post.
func (e *engine) queue(to func(*chores) *[]chore, c chore) bool {
	return e.post(func() {
		list := to(&e.chores)
		*list = append(*list, c)
	})
}

func installs(c *chores) *[]chore  { return &c.installs }
func questions(c *chores) *[]chore { return &c.questions }

// each does the same with every one of a list, which costs so many steps each time.
func each[T any](list []T, cost int, do func(T)) chore {
	return func(steps *int) bool {
		for ; len(list) > 0 && *steps > 0; list = list[1:] {
			*steps -= cost
			do(list[0])
		}
		return len(list) == 0
	}
}

// ask has each poller do a chore that gives one answer, and hands all of them to take.
func ask[T any](r *Relay, begin func(e *engine, answer func(T)) chore, take func(T)) {
	answers := make(chan T, len(r.engines))
	asked := 0
	for _, e := range r.engines {
		if e.queue(questions, begin(e, func(v T) { answers <- v })) {
			asked++
		}
	}
	for range asked {
		take(<-answers)
	}
}
