package integration_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// town is where the guests of the fault tests live: the edges' addresses, as a name server gives them.
type town struct {
	host    string
	edges   map[string][]string // addresses by unit; "": of all
	evicted atomic.Int64        // Closes that an eviction sent
	guests  []*guest
	stop    context.CancelFunc
	done    sync.WaitGroup
}

// guest is one user's device: a chatter that stands everything. It comes back after whatever ended its connection, by way
// of any edge, and lets one that does not answer be.
type guest struct {
	chatter
	town  *town
	moves bool   // the cutovers are about it
	leave func() // ends its connection, guarded by chatter.mu
}

const (
	comeBack      = 100 * time.Millisecond // before a device tries another edge, at most
	longestRefuse = 5 * time.Second        // more than any Retry-After of the edges
)

// invite has n guests come, spread evenly over all slots; those in the range move. They chat until the test ends.
func (w *town) invite(t *testing.T, n, from, to int, every time.Duration) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	w.stop = stop
	for i := range n {
		id := i * 10000 / n
		g := &guest{chatter: chatter{id: strconv.Itoa(id), every: every}, town: w, moves: from <= id && id <= to}
		w.guests = append(w.guests, g)
		w.done.Go(func() { g.run(ctx) })
	}
	t.Cleanup(func() { stop(); w.done.Wait() })
}

func (g *guest) run(ctx context.Context) {
	unit := ""
	for dial := 0; ctx.Err() == nil; dial++ {
		addrs := g.town.edges[unit]
		addr := addrs[rand.IntN(len(addrs))]
		current := &chat{name: fmt.Sprintf("%s/%d", g.id, dial), edge: addr}
		client, response, err := harness.Dial(harness.Handshake{
			Addr: addr, Host: g.town.host, RouterID: g.id, Header: [][2]string{{chatHeader, current.name}},
		})
		switch {
		case err != nil: // the edge is away, or stands still
			pause(ctx, rand.N(comeBack))
		case client != nil:
			staying, leave := context.WithCancel(ctx)
			g.mu.Lock()
			g.chats, g.leave = append(g.chats, current), leave
			g.mu.Unlock()
			g.talk(staying, client, current)
			leave()
			if closedWith(current.end, 1012, "moved to "+g.town.other(current.unit)) {
				g.town.evicted.Add(1)
			}
			unit = ""
		default:
			unit = g.follow(ctx, addr, response)
		}
	}
}

// follow does what an answer other than 101 asks for, and says which unit's edges are to be dialled next.
func (g *guest) follow(ctx context.Context, addr string, response *http.Response) (unit string) {
	wait, err := strconv.Atoi(response.Header.Get("Retry-After"))
	switch {
	case response.StatusCode == http.StatusFound:
		location, err := url.Parse(response.Header.Get("Location"))
		unit, _, ok := strings.Cut(location.Host, ".")
		if err != nil || !ok || len(g.town.edges[unit]) == 0 {
			g.fail(fmt.Errorf("%s answered %s with Location %q", addr, response.Status, response.Header.Get("Location")))
			return ""
		}
		return unit
	case response.StatusCode == http.StatusServiceUnavailable && err == nil && time.Duration(wait)*time.Second <= longestRefuse:
		pause(ctx, time.Duration(wait)*time.Second)
	default:
		g.fail(fmt.Errorf("%s answered %s", addr, response.Status))
		pause(ctx, comeBack)
	}
	return ""
}

// other is the second unit.
func (w *town) other(unit string) string {
	for name := range w.edges {
		if name != "" && name != unit {
			return name
		}
	}
	return ""
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// stay is how a guest stood at one moment.
type stay struct {
	chat
	chats int
}

func (w *town) stays() []stay {
	all := make([]stay, len(w.guests))
	for i, g := range w.guests {
		all[i].chat, all[i].chats = g.last()
	}
	return all
}

// unserved lists guests that nobody serves at this moment, that are served by another unit than owner says, or that have
// heard nothing since.
func (w *town) unserved(since []stay, owner func(*guest) string) (some []string) {
	for i, g := range w.guests {
		now, chats := g.last()
		fresh := now.echoed > 0 && (since == nil || chats > since[i].chats || now.echoed > since[i].echoed)
		if chats == 0 || now.end != nil || !fresh || now.unit != owner(g) {
			some = append(some, fmt.Sprintf("%s: connection %d to %s in %q, %d sent, %d echoed, ended with %v", g.id, chats, now.edge, now.unit, now.sent, now.echoed, now.end))
		}
	}
	return some
}

// awaitServed waits until every guest is served where it belongs, and has had an answer since.
func (w *town) awaitServed(t *testing.T, within time.Duration, since []stay, owner func(*guest) string) {
	t.Helper()
	var some []string
	if !harness.Poll(within, func() bool {
		some = w.unserved(since, owner)
		return len(some) == 0
	}) {
		t.Fatalf("after %v %d of %d guests are not served, %s", within, len(some), len(w.guests), strings.Join(some[:min(3, len(some))], "; "))
	}
}

// spread has the guests of an edge come anew, where it has most of its unit's: whom it loses by a kill comes to the other
// one and stays there, and after a few faults one edge would have them all.
func (w *town) spread(t *testing.T, within time.Duration, owner func(*guest) string) {
	t.Helper()
	before := w.stays()
	on := map[string][]int{}
	for i, s := range before {
		on[s.edge] = append(on[s.edge], i)
	}
	var left []int
	for unit, addrs := range w.edges {
		total := 0
		for _, addr := range addrs {
			total += len(on[addr])
		}
		for _, addr := range addrs {
			if unit != "" && 3*len(on[addr]) >= 2*total {
				left = append(left, on[addr]...)
			}
		}
	}
	for _, i := range left {
		g := w.guests[i]
		g.mu.Lock()
		g.leave()
		g.mu.Unlock()
	}
	harness.Eventually(t, within, "those who left come again", func() bool {
		return !slices.ContainsFunc(left, func(i int) bool {
			_, chats := w.guests[i].last()
			return chats == before[i].chats
		})
	})
	w.awaitServed(t, within, nil, owner)
}

// devices has further devices of the moving users dial any edge of either unit all the time, and leave again. They find
// a unit that serves too early: a guest itself comes there only once the other unit has sent it away. The function that is
// returned ends them and says how often one was let in.
func (w *town) devices(t *testing.T) (stop func() int) {
	t.Helper()
	var moving []string
	for _, g := range w.guests {
		if g.moves {
			moving = append(moving, g.id)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	var admitted atomic.Int64
	for range 8 {
		running.Go(func() {
			for ctx.Err() == nil {
				addr, id := w.edges[""][rand.IntN(len(w.edges[""]))], moving[rand.IntN(len(moving))]
				if client, _, _ := harness.Dial(harness.Handshake{Addr: addr, Host: w.host, RouterID: id}); client != nil {
					admitted.Add(1)
					visit(client)
				}
				pause(ctx, 2*comeBack)
			}
		})
	}
	stop = func() int { cancel(); running.Wait(); return int(admitted.Load()) }
	t.Cleanup(func() { stop() })
	return stop
}
