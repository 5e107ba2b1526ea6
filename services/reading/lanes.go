package reading

import (
	"strconv"
	"sync"
)

// Bounds of what waits.
const (
	maxLanes   = 512  // roles, and for each unit of all namespaces one of its edges and one of strangers
	maxWaiting = 1024 // questions in one lane: one of each edge of a unit
	maxRole    = 64   // questions of one role
)

// lanes are the questions that wait, by the role or unit on whose behalf they are asked.
type lanes struct {
	work    func(question)
	working sync.WaitGroup // a goroutine for each lane that is not empty

	mu     sync.Mutex
	by     map[string]*lane
	next   uint64 // names the askers that have no name
	closed bool   // nothing is taken any more
}

// lane holds the newest question of each asker. A question that takes the place of an older one has its turn.
type lane struct {
	order   []string // askers
	waiting map[string]question
}

// add puts a question into its lane; false: there is no room.
func (l *lanes) add(p place, q question) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	most, asker := maxWaiting, p.asker
	if asker == "" {
		most = maxRole
		l.next++
		asker = strconv.FormatUint(l.next, 10)
	}
	ln := l.by[p.lane]
	if ln == nil {
		if l.closed || len(l.by) >= maxLanes {
			return false
		}
		ln = &lane{waiting: map[string]question{}}
		l.by[p.lane] = ln
		l.working.Go(func() { l.run(p.lane, ln) })
	}
	if _, waits := ln.waiting[asker]; !waits {
		if len(ln.waiting) >= most {
			return false
		}
		ln.order = append(ln.order, asker)
	}
	ln.waiting[asker] = q
	return true
}

// close takes no more questions, and waits until those that wait are worked on.
func (l *lanes) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.working.Wait()
}

// run works on a lane's questions, one after another, until none is left.
func (l *lanes) run(name string, ln *lane) {
	for {
		l.mu.Lock()
		if len(ln.order) == 0 {
			delete(l.by, name)
			l.mu.Unlock()
			return
		}
		asker := ln.order[0]
		ln.order = ln.order[1:]
		q := ln.waiting[asker]
		delete(ln.waiting, asker)
		l.mu.Unlock()
		l.work(q)
	}
}
