package sim

import (
	"container/heap"
	"time"
)

// happening is something that will happen at a moment of true time.
type happening struct {
	at  time.Duration
	n   int // breaks ties, so that the order is the seed's
	run func()
}

// queue holds what will happen, the next first.
type queue struct {
	heap agenda
	n    int
}

func (q *queue) add(at time.Duration, run func()) {
	q.n++
	heap.Push(&q.heap, happening{at, q.n, run})
}

func (q *queue) next() (happening, bool) {
	if len(q.heap) == 0 {
		return happening{}, false
	}
	return heap.Pop(&q.heap).(happening), true
}

type agenda []happening

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].n < a[j].n
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(happening)) }
func (a *agenda) Pop() any {
	x := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return x
}
