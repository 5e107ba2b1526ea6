package integration_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/integration/harness"
	"github.com/unitgate/unitgate/services/command"
)

const (
	// recovers bounds what a cluster of NATS servers and everything on it need after a fault: an election takes 3 to
	// 7 s, a client that waits for an answer that got lost asks again after 5 s.
	recovers = time.Minute
	askEvery = 50 * time.Millisecond // a client's pace: two cores run ten processes here
	askFor   = 15 * time.Second      // one Do of a client; then it asks again with the same id
)

// clustered is a namespace on a cluster of three NATS servers: two controllers, two edges, and clients that give commands.
type clustered struct {
	*harness.System
	nats     *harness.Cluster
	js       jetstream.JetStream
	edges    []*harness.EdgeProcess
	controls []*harness.Process
	askers   askers
}

func startClustered(t *testing.T, namespace string) *clustered {
	t.Helper()
	c := &clustered{nats: harness.StartCluster(t)}
	seen := harness.NewRegister()
	cfg := harness.Config{Namespace: namespace, Domain: namespace + ".example.com"}
	for _, u := range []harness.Unit{{ID: "center", Range: "0-5997"}, {ID: "unbj", Range: "5998-9999"}} {
		u.Origins = []string{harness.StartOrigin(t, u.ID, seen, 0).Addr}
		u.Location = "127.0.0.1:" + strconv.Itoa(harness.FreePort(t))
		cfg.Units = append(cfg.Units, u)
	}
	c.System = harness.StartSystemOn(t, c.nats.URL, cfg)
	c.controls = append(c.controls, c.Control)
	c.StartControl(t)
	c.controls = append(c.controls, c.Control)
	for _, u := range cfg.Units {
		c.edges = append(c.edges, c.StartEdge(t, u.ID+"-1", u, u.Location))
	}
	js, err := jetstream.New(harness.Connect(t, c.nats.URL))
	if err != nil {
		t.Fatal(err)
	}
	c.js = js
	c.askers = askers{every: askEvery, outcomes: map[string]uint64{}, stop: make(chan struct{})}
	return c
}

func (c *clustered) stream() string { return "UNITGATE_" + c.Namespace }

// replicated checks that everything which the control plane keeps has three copies.
func (c *clustered) replicated(t *testing.T) {
	t.Helper()
	names := []string{}
	streams := c.js.ListStreams(t.Context())
	for info := range streams.Info() {
		names = append(names, info.Config.Name)
		if info.Config.Replicas != 3 || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
			t.Errorf("stream %s: %d replicas, %+v", info.Config.Name, info.Config.Replicas, info.Cluster)
		}
	}
	if err := streams.Err(); err != nil || !slices.Contains(names, c.stream()) {
		t.Fatalf("streams %q, %v", names, err)
	}
}

// current waits until a server that was away has caught up with the journal's leader.
func (c *clustered) current(t *testing.T) {
	t.Helper()
	harness.Eventually(t, recovers, "every replica is current", func() bool {
		s, err := c.js.Stream(t.Context(), c.stream())
		if err != nil || s.CachedInfo().Cluster == nil {
			return false
		}
		peers := s.CachedInfo().Cluster.Replicas
		return len(peers) == 2 && !slices.ContainsFunc(peers, func(p *jetstream.PeerInfo) bool { return !p.Current || p.Offline })
	})
}

// askers are clients that give commands, and what they know of them.
type askers struct {
	every   time.Duration // each client's pace
	running sync.WaitGroup
	stop    chan struct{}

	mu       sync.Mutex
	outcomes map[string]uint64 // by command id: the acknowledged sequence, 0 while there was none
	acked    int
	again    int // times that a client had to ask again, or asked on purpose
	wrong    []string
}

// join starts a client: it changes a unit of its own, one command after the other.
func (c *askers) join(t *testing.T, nc *nats.Conn, namespace, unit string) {
	client := command.NewClient(nc, namespace)
	c.running.Go(func() {
		tick := time.NewTicker(c.every)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-c.stop:
				return
			case <-t.Context().Done():
				return
			case <-tick.C:
			}
			c.give(t.Context(), client, uuid.NewString(), events.Unit{ID: unit, Name: fmt.Sprintf("%s %d", unit, n)})
		}
	})
}

// give asks with one id until it is acknowledged, and after some acknowledgements once more.
func (c *askers) give(ctx context.Context, client *command.Client, id string, u events.Unit) {
	c.note(id, 0, "")
	deadline := time.Now().Add(recovers)
	for time.Now().Before(deadline) && ctx.Err() == nil {
		seq, wrong := ask(ctx, client, id, u, askFor)
		c.note(id, seq, wrong)
		if wrong != "" || seq != 0 && id[0] != '0' { // one id in sixteen asks again although it knows
			return
		}
		if seq != 0 {
			again, wrong := ask(ctx, client, id, u, askFor)
			c.note(id, again, wrong)
			return
		}
	}
	if ctx.Err() == nil {
		c.note(id, 0, fmt.Sprintf("%s was not acknowledged in %v", id, recovers))
	}
}

// ask gives one command: its sequence, or 0 if nobody says that it took effect. A rejection by a rule is wrong here.
func ask(ctx context.Context, client *command.Client, id string, u events.Unit, within time.Duration) (seq uint64, wrong string) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	o, err := client.Do(ctx, "unit", "put", command.Request{ID: id, Actor: "test", Data: u})
	switch {
	case err != nil:
		return 0, "" // no_answer, or for a moment no controller
	case o.OK:
		return o.Seq, ""
	case o.Error.Code == command.ErrUnavailable.Code, o.Error.Code == command.ErrBusy.Code:
		return 0, ""
	}
	return 0, fmt.Sprintf("%s: %v", id, o.Error)
}

func (c *askers) note(id string, seq uint64, wrong string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if wrong != "" {
		c.wrong = append(c.wrong, wrong)
	}
	before, known := c.outcomes[id]
	if known {
		c.again++
	}
	if before != 0 && seq != 0 && seq != before {
		c.wrong = append(c.wrong, fmt.Sprintf("%s was acknowledged at %d and at %d", id, before, seq))
	}
	if seq != 0 && before == 0 {
		c.acked++
		c.again-- // the first answer
	}
	c.outcomes[id] = max(before, seq)
}

func (c *askers) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.acked
}

// goesOn waits until n more commands are acknowledged, and says how long that took.
func (c *askers) goesOn(t *testing.T, n int, what string) time.Duration {
	t.Helper()
	start, before := time.Now(), c.count()
	harness.Eventually(t, recovers, what, func() bool { return c.count() >= before+n })
	return time.Since(start).Round(10 * time.Millisecond)
}

// start lets clients come, and returns when commands flow.
func (c *clustered) start(t *testing.T) {
	t.Helper()
	for n := range 4 {
		c.askers.join(t, harness.Connect(t, c.nats.URL), c.Namespace, "w"+strconv.Itoa(n))
	}
	c.askers.goesOn(t, 20, "commands are acknowledged")
}

// settle lets the clients finish and checks what they were told against the journal, and every process against it.
func (c *clustered) settle(t *testing.T) {
	t.Helper()
	close(c.askers.stop)
	c.askers.running.Wait()
	began := time.Now()
	c.current(t)
	c.check(t)
	c.converge(t)
	conflicts := 0
	for _, p := range c.controls {
		conflicts += strings.Count(p.Stderr.String(), "10164")
	}
	t.Logf("%d commands acknowledged, %d asked again; checked and converged %v after the last; code 10164 is %d times in the logs",
		c.askers.count(), c.askers.again, time.Since(began).Round(10*time.Millisecond), conflicts)
}

// check reads the journal: what was acknowledged is there once, where the acknowledgement says; the rest at most once.
func (c *clustered) check(t *testing.T) {
	t.Helper()
	found := map[string][]uint64{}
	harness.Eventually(t, recovers, "the journal can be read", func() bool {
		j, err := journal.Open(t.Context(), c.js, c.Namespace)
		if err != nil {
			return false
		}
		clear(found)
		return j.Read(t.Context(), 0, func(r events.Record) error {
			found[r.CommandID] = append(found[r.CommandID], r.Seq)
			return nil
		}) == nil
	})
	for _, wrong := range c.askers.wrong {
		t.Error(wrong)
	}
	for id, seq := range c.askers.outcomes {
		if at := found[id]; len(at) > 1 || seq != 0 && !slices.Equal(at, []uint64{seq}) {
			t.Errorf("%s was acknowledged at %d, the journal has it at %d", id, seq, at)
		}
	}
}

// converge waits until every edge is live and at the head with the state that the journal gives.
func (c *clustered) converge(t *testing.T) {
	t.Helper()
	var verdict struct {
		OK        bool   `json:"ok"`
		Head      uint64 `json:"head"`
		StateHash string `json:"stateHash"`
	}
	var edges []harness.Edge
	at := func(e harness.Edge) bool {
		return e.Live && e.Applied == verdict.Head && e.StateHash == verdict.StateHash
	}
	if !harness.Poll(recovers, func() bool {
		verify := c.Run(t, "journal", "verify")
		shown := c.Run(t, "get", "edges")
		if verify.Code != 0 || shown.Code != 0 {
			return false
		}
		verify.JSON(t, &verdict)
		edges = nil
		shown.JSON(t, &edges)
		return verdict.OK && len(edges) == len(c.edges) && !slices.ContainsFunc(edges, func(e harness.Edge) bool { return !at(e) })
	}) {
		t.Errorf("the journal is %+v, the edges are %+v", verdict, edges)
	}
	c.Run(t, "journal", "verify").OK(t)
}

// TestClusterLeaderKilled kills the NATS server that leads the journal while commands flow: after an election they flow
// again, and what was acknowledged is there once (G3), with the old leader back too.
func TestClusterLeaderKilled(t *testing.T) {
	harness.Long(t, "it waits for elections")
	c := startClustered(t, "killed")
	c.replicated(t)
	c.start(t)
	leader := c.nats.Leader(t, c.js, c.stream())
	c.nats.Server(leader).Kill()
	t.Logf("%s killed: 20 more commands took %v", leader, c.askers.goesOn(t, 20, "commands are acknowledged by the other two"))
	c.nats.Restart(t, leader)
	c.askers.goesOn(t, 20, "commands are acknowledged by all three")
	c.settle(t)
}
