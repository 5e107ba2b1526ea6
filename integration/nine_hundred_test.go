package integration_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// crowd is 900 users over three units: 300 each, one of c's by an exact ID that lies in a range of b.
type crowd struct {
	dev   *harness.Dev
	seen  *harness.Register
	users map[string]*chatter
	stop  context.CancelFunc
	done  sync.WaitGroup
}

// exactUser belongs to c, although its slot is b's, then a's, then b's again.
const exactUser = "3500"

// TestNineHundred moves users between three units twice, the second time slowly and while
// further devices of the moving users dial both units all the time.
func TestNineHundred(t *testing.T) {
	c := startCrowd(t)
	expected := map[string]int{} // chats by user
	for id := range c.users {
		expected[id] = 1
	}

	// b to a: the slots 3000 to 3999.
	first := c.cutover(t, "--range", "a=0-3999", "--range", "b=4000-6999", "--range", "c=7000-9999")
	moved := c.between(3000, 3999)
	if first.Slots != 1000 || first.Sessions != len(moved) || first.Evicted != len(moved) {
		t.Errorf("first cutover: %d slots, %d sessions seen before, %d evicted; want 1000 slots and %d sessions",
			first.Slots, first.Sessions, first.Evicted, len(moved))
	}
	for _, id := range moved {
		expected[id]++
	}
	c.awaitChats(t, moved, expected, "a")
	c.checkEnds(t, moved, "a")
	c.dev.AwaitCutover(t, first.ID, within, "everyone landed", func(cut harness.Cutover) bool { return cut.Landed == len(moved) })

	// a to b: those again, and the slots 0 to 1999.
	moved = append(moved, c.between(0, 1999)...)
	stopDevices := c.dialBoth(t, moved)
	second := c.cutover(t, "--range", "a=2000-2999", "--range", "b=0-1999", "--range", "b=3000-6999", "--range", "c=7000-9999", "--rate", "100")
	for _, id := range moved {
		expected[id]++
	}
	c.awaitChats(t, moved, expected, "b")
	if dialled := stopDevices(); dialled == 0 {
		t.Error("no further device was ever let in, so nothing was tried")
	}
	if second.Slots != 3000 || second.Evicted < len(moved) {
		t.Errorf("second cutover: %d slots, %d evicted; want 3000 slots and at least %d", second.Slots, second.Evicted, len(moved))
	}
	c.checkEnds(t, moved, "b")

	c.stop()
	c.done.Wait()
	c.checkChats(t, expected)
	for _, overlap := range c.seen.Overlaps() {
		t.Error(overlap)
	}
}

func startCrowd(t *testing.T) *crowd {
	t.Helper()
	c := &crowd{seen: harness.NewRegister(), users: map[string]*chatter{}}
	config := harness.Config{Namespace: "crowd", Domain: "chat.example.com", Units: []harness.Unit{
		{ID: "a", Range: "0-2999"}, {ID: "b", Range: "3000-6999"}, {ID: "c", Range: "7000-9999", Exact: []string{exactUser}},
	}}
	for i, u := range config.Units {
		config.Units[i].Origins = []string{harness.StartOrigin(t, u.ID, c.seen, 0).Addr}
	}
	c.dev = harness.StartDev(t, "-f", config.File(t))
	for i := range 300 {
		c.add(t, "a", strconv.Itoa(i*10), i)
		c.add(t, "b", strconv.Itoa([]int{3001, 4001}[i%2]+i/2*6), i) // half of them in the moving range
		if i > 0 {
			c.add(t, "c", strconv.Itoa(7000+i*10), i)
		}
	}
	c.add(t, "c", exactUser, 0)
	if len(c.users) != 900 {
		t.Fatalf("%d users", len(c.users))
	}
	ctx, stop := context.WithCancel(t.Context())
	c.stop = stop
	for _, u := range c.users {
		c.done.Go(func() { u.run(ctx) })
	}
	t.Cleanup(func() { stop(); c.done.Wait() })
	harness.Eventually(t, within, "900 sessions chat", func() bool {
		talking := 0
		for _, u := range c.users {
			if now, _ := u.last(); now.echoed > 0 {
				talking++
			}
		}
		return talking == 900
	})
	return c
}

// add adds a user, alternating between the edges of the unit.
func (c *crowd) add(t *testing.T, unit, id string, i int) {
	t.Helper()
	edges := c.dev.Edges(t, unit)
	every := 500 * time.Millisecond
	if harness.Race {
		every = 2 * time.Second
	}
	c.users[id] = &chatter{id: id, addr: edges[i%len(edges)], every: every}
}

// between lists the users whose slot lies in a range, the exact one apart.
func (c *crowd) between(from, to int) []string {
	var ids []string
	for id := range c.users {
		if n, err := strconv.Atoi(id); err == nil && from <= n && n <= to && id != exactUser {
			ids = append(ids, id)
		}
	}
	return ids
}

// cutover previews and runs a cutover to its end.
func (c *crowd) cutover(t *testing.T, args ...string) harness.Cutover {
	t.Helper()
	preview := c.dev.Cutover(t, append([]string{"preview"}, args...)...)
	done := c.dev.Cutover(t, "start", preview.ID, "--wait")
	if done.State != "completed" {
		t.Fatalf("cutover: %+v", done)
	}
	done.Sessions = preview.Sessions
	return done
}

// awaitChats waits until the users chat on their expected connection, in their new unit.
func (c *crowd) awaitChats(t *testing.T, ids []string, expected map[string]int, unit string) {
	t.Helper()
	missing := ""
	if !harness.Poll(within, func() bool {
		for _, id := range ids {
			if now, chats := c.users[id].last(); chats != expected[id] || now.unit != unit || now.echoed == 0 {
				missing = fmt.Sprintf("%s is on connection %d (%+v), want %d in %s", id, chats, now, expected[id], unit)
				return false
			}
		}
		return true
	}) {
		t.Fatal(missing)
	}
}

// checkEnds holds the connection before the last of each user against the eviction's Close.
func (c *crowd) checkEnds(t *testing.T, ids []string, unit string) {
	t.Helper()
	for _, id := range ids {
		u := c.users[id]
		u.mu.Lock()
		if end := u.chats[len(u.chats)-2].end; !closedWith(end, 1012, "moved to "+unit) {
			t.Errorf("%s: its connection ended with %v", id, end)
		}
		u.mu.Unlock()
	}
}

// dialBoth lets further devices of these users dial units a and b, until the function it returns
// is called; that tells how many were let in.
func (c *crowd) dialBoth(t *testing.T, ids []string) func() int {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	edges := append(c.dev.Edges(t, "a"), c.dev.Edges(t, "b")...)
	var admitted, devices = make(chan int, 16), sync.WaitGroup{}
	for d := range cap(admitted) {
		devices.Go(func() {
			n := 0
			for i := d; ctx.Err() == nil; i += cap(admitted) {
				// Each keeps to one edge: those that are held at the losing unit must not slow down those at the gaining one.
				client, _, err := harness.Dial(harness.Handshake{Addr: edges[d%len(edges)], RouterID: ids[i%len(ids)]})
				if err != nil {
					t.Errorf("a further device: %v", err)
					break
				}
				if client != nil {
					n++
					visit(client)
				}
			}
			admitted <- n
		})
	}
	return func() int {
		stop()
		devices.Wait()
		total := 0
		for range cap(admitted) {
			total += <-admitted
		}
		return total
	}
}

// visit says one thing and leaves; an eviction may come in between.
func visit(client *harness.Client) {
	defer client.Drop()
	if _, err := client.Read(within); err != nil {
		return
	}
	if client.Send("a visit") != nil {
		return
	}
	if _, err := client.Read(within); err != nil {
		return
	}
	_ = client.SendClose(1000, "") // refused when we were closed first
	for {
		if _, err := client.Read(within); err != nil {
			return
		}
	}
}

// checkChats holds each user's whole story against the origins': as many connections as it was
// moved and one, no gap, nothing lost that was sent before a Close.
func (c *crowd) checkChats(t *testing.T, expected map[string]int) {
	t.Helper()
	arrived := map[string]*harness.Session{}
	for _, s := range c.seen.All() {
		if name := s.Header.Get(chatHeader); name != "" {
			if arrived[name] != nil {
				t.Errorf("%s reached an origin twice", name)
			}
			arrived[name] = s
		}
	}
	for id, u := range c.users {
		if u.problem != nil {
			t.Error(u.problem)
		}
		if len(u.chats) != expected[id] {
			t.Errorf("%s had %d connections, want %d", id, len(u.chats), expected[id])
			continue
		}
		for i, one := range u.chats {
			checkArrived(t, one, arrived[one.name])
			if last := i == len(u.chats)-1; last && (!closedWith(one.end, 1000, "") || one.echoed != one.sent) {
				t.Errorf("%s: %d sent, %d echoed, ended with %v", one.name, one.sent, one.echoed, one.end)
			}
		}
	}
}

// checkArrived expects everything that was sent before the connection's Close at the origin, in order.
func checkArrived(t *testing.T, sent *chat, s *harness.Session) {
	t.Helper()
	if s == nil {
		t.Errorf("%s reached no origin", sent.name)
		return
	}
	harness.Eventually(t, within, sent.name+" ends at its origin", func() bool { return s.Ended() != nil })
	messages := s.Messages()
	if len(messages) != sent.sent {
		t.Errorf("%s sent %d messages, %d arrived (the session ended with %v)", sent.name, sent.sent, len(messages), s.Ended())
	}
	for i, m := range messages {
		if m != strconv.Itoa(i) {
			t.Errorf("%s: message %d arrived as %q", sent.name, i, m)
			return
		}
	}
}
