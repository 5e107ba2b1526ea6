package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/integration/harness"
	"github.com/unitgate/unitgate/services/command"
)

// faultBed is a system on which faults are tried: three NATS servers, two controllers and four edges, each a process of
// its own, clients that give commands, and guests that chat. The slots from moveFrom to moveTo go from one unit to the
// other and back, with each cutover.
type faultBed struct {
	*clustered
	*watch
	town
	scale
	exclusive bool
	client    *command.Client
	seen      *harness.Register
	owner     string // of the moving slots
	turn      int    // which of a unit's edges is struck next

	inOffice int    // controller that drives, as ready saw it
	leads    string // NATS server that leads the journal, likewise
}

const moveFrom, moveTo = 4000, 5999

func startFaultBed(t *testing.T, ownership string, size scale) *faultBed {
	t.Helper()
	b := &faultBed{clustered: &clustered{nats: harness.StartCluster(t)}, scale: size, exclusive: ownership == "exclusive", seen: harness.NewRegister(), owner: "unbj"}
	b.town = town{host: ownership + ".example.com", edges: map[string][]string{}}
	cfg := harness.Config{Namespace: ownership, Domain: b.host, Policy: "ownership: " + ownership}
	for _, u := range []harness.Unit{{ID: "center", Range: "0-3999"}, {ID: "unbj", Range: "4000-9999"}} {
		u.Origins = []string{harness.StartOrigin(t, u.ID, b.seen, 0).Addr}
		cfg.Units = append(cfg.Units, u)
	}
	b.System = harness.StartSystemOn(t, b.clustered.nats.URL, cfg)
	b.controls = append(b.controls, b.Control)
	b.StartControl(t)
	b.controls = append(b.controls, b.Control)
	for _, u := range cfg.Units {
		for n := range 2 {
			addr := "127.0.0.1:" + strconv.Itoa(harness.FreePort(t))
			b.clustered.edges = append(b.clustered.edges, b.StartEdge(t, fmt.Sprintf("%s-%d", u.ID, n+1), u, addr))
			for _, of := range []string{u.ID, ""} {
				b.town.edges[of] = append(b.town.edges[of], addr)
			}
		}
	}
	nc := harness.Connect(t, b.NATS)
	var err error
	if b.js, err = jetstream.New(nc); err != nil {
		t.Fatal(err)
	}
	b.client = command.NewClient(nc, ownership)
	b.watch = startWatch(t, nc, b.js, ownership)
	b.commands(t, nc)
	b.invite(t, size.guests, moveFrom, moveTo, size.every)
	b.awaitServed(t, converges, nil, b.home)
	return b
}

// commands has clients give commands from now on.
func (b *faultBed) commands(t *testing.T, nc *nats.Conn) {
	t.Helper()
	b.askers = askers{every: 4 * askEvery, outcomes: map[string]uint64{}, stop: make(chan struct{})}
	for n := range 4 {
		b.askers.join(t, nc, b.Namespace, "w"+strconv.Itoa(n))
	}
	b.askers.goesOn(t, 4, "commands are acknowledged")
}

// home is the unit that a guest belongs to.
func (b *faultBed) home(g *guest) string {
	switch id, _ := strconv.Atoi(g.id); {
	case g.moves:
		return b.owner
	case id < moveFrom:
		return "center"
	}
	return "unbj"
}

// ready waits until nothing of the fault before is left.
func (b *faultBed) ready(t *testing.T) {
	t.Helper()
	b.current(t)
	for _, e := range b.clustered.edges {
		e.Serves(t)
	}
	harness.Eventually(t, recovers, "one of two controllers is in office", func() bool {
		b.inOffice = b.driver()
		return b.inOffice >= 0
	})
	if b.exclusive {
		harness.Eventually(t, 2*recovers, "every edge holds a lease, and no cutover may do without", func() bool { return b.leased(t) })
	}
	b.leads = b.clustered.nats.Leader(t, b.js, b.stream())
	b.awaitServed(t, recovers, nil, b.home)
	b.spread(t, recovers, b.home)
}

// leased says whether every edge serves by a lease.
func (b *faultBed) leased(t *testing.T) bool {
	t.Helper()
	edges := b.API.Edges(t)
	return !slices.ContainsFunc(edges, func(e harness.Edge) bool { return e.Lease == "" || e.Lease == "0" })
}

var adminAddress = regexp.MustCompile(`msg="admin listener" addr=(\S+)`)

// driver is the index of the controller that is in office, -1 if none or several say so, or one says nothing.
func (b *faultBed) driver() int {
	found := -1
	client := http.Client{Timeout: time.Second}
	for i, p := range b.controls {
		var status struct {
			Namespaces []struct{ Leading bool }
		}
		at := adminAddress.FindStringSubmatch(p.Stderr.String())
		if at == nil {
			return -1
		}
		response, err := client.Get("http://" + at[1] + "/status")
		if err != nil {
			return -1
		}
		err = json.NewDecoder(response.Body).Decode(&status)
		response.Body.Close()
		if err != nil || len(status.Namespaces) != 1 {
			return -1
		}
		if status.Namespaces[0].Leading {
			if found >= 0 {
				return -1
			}
			found = i
		}
	}
	return found
}

// ask gives a command about a cutover until it is accepted, always with the same id.
func (b *faultBed) ask(verb, cutover string) error {
	_, err := b.do(verb, map[string]any{"cutover": cutover})
	return err
}

func (b *faultBed) order(t *testing.T, verb, cutover string) {
	t.Helper()
	if err := b.ask(verb, cutover); err != nil {
		t.Fatalf("cutover.%s: %v", verb, err)
	}
}

func (b *faultBed) do(verb string, data any) (json.RawMessage, error) {
	id := uuid.NewString()
	var last error
	for deadline := time.Now().Add(recovers); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), askFor)
		o, err := b.client.Do(ctx, "cutover", verb, command.Request{ID: id, Actor: "test", Reason: "a fault is tried", Data: data})
		cancel()
		switch last = err; {
		case err != nil: // no_answer, or for a moment no controller
		case o.OK:
			return o.Data, nil
		case o.Error.Code == command.ErrUnavailable.Code, o.Error.Code == command.ErrBusy.Code:
			last = o.Error
		default:
			return nil, o.Error
		}
	}
	return nil, last
}

// propose previews the next cutover and has its prechecks pass.
func (b *faultBed) propose(t *testing.T, gaining string) string {
	t.Helper()
	ranges := map[string][]string{"center": {"0-3999"}, "unbj": {"6000-9999"}}
	ranges[gaining] = append(ranges[gaining], fmt.Sprintf("%d-%d", moveFrom, moveTo))
	moving := 0
	for _, g := range b.town.guests {
		if g.moves {
			moving++
		}
	}
	data, err := b.do("preview", map[string]any{
		"ranges": ranges, "waves": 2, "interval": b.interval.String(),
		// Two edges share a wave's half of them.
		"rate": max(1, int(float64(moving)/4/b.scale.drain.Seconds())),
	})
	if err != nil {
		t.Fatalf("preview: %v", err)
	}
	var proposed struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(data, &proposed); err != nil {
		t.Fatal(err)
	}
	var checked struct {
		Checks []harness.Check `json:"checks"`
	}
	if !harness.Poll(recovers, func() bool {
		if data, err = b.do("check", map[string]any{"cutover": proposed.ID}); err != nil || json.Unmarshal(data, &checked) != nil {
			return false
		}
		return !slices.ContainsFunc(checked.Checks, func(c harness.Check) bool { return c.State == string(events.Fail) })
	}) {
		t.Fatalf("the prechecks fail: %v, %+v", err, checked)
	}
	return proposed.ID
}

// awaitPhase returns at the very moment at which a cutover has come to a phase.
func (b *faultBed) awaitPhase(t *testing.T, phase, id, losing string) {
	t.Helper()
	some := b.evicted.Load() + int64(len(b.town.guests)/50)
	is := func(kind string, wave int) func() bool {
		return func() bool { _, ok := b.of(id, kind, wave); return ok }
	}
	var found func() bool
	switch phase {
	case atFence:
		found = is("WaveFenced", 0)
	case draining:
		harness.Eventually(t, recovers, "evictions", func() bool { return b.evicted.Load() > some })
		return
	case betweenWaves:
		found = is("WaveCommitted", 0)
	case committing:
		found = func() bool { return b.drained(id, 1, []string{losing + "-1", losing + "-2"}) }
	case committed:
		found = is("WaveCommitted", 1)
	}
	b.await(t, recovers, "phase "+phase, found)
}

// strike does to a cell's target what its fault is. It returns what undoes that, once, and the addresses of edges that
// were killed.
func (b *faultBed) strike(t *testing.T, c cell, losing, gaining string) (heal func(), off []string) {
	t.Helper()
	var undo []func()
	hit := func(p *harness.Process, restart func()) {
		switch c.Fault {
		case stopped:
			p.Signal(t, syscall.SIGSTOP)
			undo = append(undo, func() { p.Signal(t, syscall.SIGCONT) })
		case outlasts:
			p.Signal(t, syscall.SIGSTOP)
			undo = append(undo, func() {
				if code := p.Wait(t, longestLease); code != -1 {
					t.Errorf("%v: exit code %d, not killed", c, code)
				}
				restart()
			})
		default:
			p.Kill()
			undo = append(undo, restart)
		}
	}
	if c.hits(theLeader) {
		leader := b.leads
		hit(b.clustered.nats.Server(leader), func() { b.clustered.nats.Restart(t, leader) })
	}
	if c.hits(theDriver) {
		i := b.inOffice
		hit(b.controls[i], func() { b.StartControl(t); b.controls[i] = b.Control })
	}
	for target, unit := range map[string]string{losingEdge: losing, gainingEdge: gaining} {
		if c.hits(target) {
			b.turn++
			id := fmt.Sprintf("%s-%d", unit, b.turn/2%2+1)
			e := b.clustered.edges[slices.IndexFunc(b.clustered.edges, func(e *harness.EdgeProcess) bool { return e.ID == id })]
			hit(e.Process, func() { e.Restart(t) })
			if c.Fault != stopped {
				off = append(off, e.Addr)
			}
		}
	}
	return sync.OnceFunc(func() {
		for _, u := range undo {
			u()
		}
	}), off
}
