package command

import "sync"

// maxLanes bounds the lanes that are in use; calls beyond it share one.
const maxLanes = 4096

// class says how many calls of one kind a process takes at a time. A call that finds no room is refused at once, with
// ErrBusy: what waits in memory costs memory, and its caller may have gone.
type class struct {
	slots  int // of one lane, in work
	total  int // of all lanes together, in work; beyond it a lane still has its first slot
	queue  int // of one lane, waiting
	bytes  int // of their messages
	sender int // of one sender in a lane, in work or waiting; 0: not counted
}

// lanes keep calls apart that must not hold each other up: each namespace has a lane of its own, with slots and a queue, so
// that none fills another's. Lanes take turns where all together are as many as the process works on.
//
//	take ──slot free──▶ in work ──▶ done: the next one of a lane whose turn it is
//	  ├──queue has room──▶ waiting ──┘
//	  └──else──▶ refused
//
// The mutex owns all of it. Its methods may be used by any goroutine.
type lanes struct {
	class
	work    *sync.WaitGroup // has what is in work
	mu      sync.Mutex
	lanes   map[string]*lane
	waiting []*lane // those with a queue, in the order of their turns
	working int
}

type lane struct {
	key     string
	working int
	queue   []ticket
	bytes   int            // of the queue's messages
	senders map[string]int // their calls in work and waiting
}

// ticket is a call that waits.
type ticket struct {
	sender string
	size   int
	run    func()
}

func newLanes(c class, work *sync.WaitGroup) *lanes {
	return &lanes{class: c, work: work, lanes: map[string]*lane{}}
}

// take has run called on a goroutine of its own, at once or when it is its turn; it is false if there is no room. size is
// the bytes that wait with it. sender is who asks within the lane, "" if that is not known.
func (l *lanes) take(key, sender string, size int, run func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	in := l.lanes[key]
	if in == nil && len(l.lanes) >= maxLanes {
		key = ""
		in = l.lanes[key]
	}
	if in == nil {
		in = &lane{key: key, senders: map[string]int{}}
	}
	t := ticket{sender, size, run}
	switch {
	case sender != "" && l.sender > 0 && in.senders[sender] >= l.sender:
		return false
	case len(in.queue) == 0 && l.mayStart(in):
		l.start(in, t)
	case len(in.queue) < l.queue && in.bytes+size <= l.class.bytes:
		if len(in.queue) == 0 {
			l.waiting = append(l.waiting, in)
		}
		in.queue, in.bytes = append(in.queue, t), in.bytes+size
	default:
		return false
	}
	in.senders[sender]++
	l.lanes[key] = in
	return true
}

func (l *lanes) mayStart(in *lane) bool {
	return in.working < l.slots && (in.working == 0 || l.working < l.total)
}

func (l *lanes) start(in *lane, t ticket) {
	in.working, l.working = in.working+1, l.working+1
	l.work.Go(func() {
		defer l.done(in, t)
		t.run()
	})
}

// done gives a slot back, and has those begin whose turn it is.
func (l *lanes) done(in *lane, t ticket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	in.working, l.working = in.working-1, l.working-1
	if in.senders[t.sender]--; in.senders[t.sender] == 0 {
		delete(in.senders, t.sender)
	}
	if in.working == 0 && len(in.queue) == 0 {
		delete(l.lanes, in.key)
	}
	for l.next() {
	}
}

// next starts the first of the lane whose turn it is, and sends that lane to the end of the row.
func (l *lanes) next() bool {
	for i, in := range l.waiting {
		if !l.mayStart(in) {
			continue
		}
		t := in.queue[0]
		in.queue[0] = ticket{}
		in.queue, in.bytes = in.queue[1:], in.bytes-t.size
		l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
		if len(in.queue) > 0 {
			l.waiting = append(l.waiting, in)
		}
		l.start(in, t)
		return true
	}
	return false
}
