package integration_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// The run is chosen by the environment: how many kills, and the seed of a run to be repeated.
// The seed fixes what is decided, not how the machine schedules it.
const (
	killsVariable = "UNITGATE_KILLS"
	seedVariable  = "UNITGATE_SEED"
	defaultKills  = 4
)

// redelivered covers the time after which the queue hands a dead controller's command to the next one.
const redelivered = 90 * time.Second

// TestKill9 kills the whole of `unitgate dev` with SIGKILL at random moments, under commands, clients and
// cutovers, and starts it again on the same data: what was acknowledged is there, exactly once.
//
// A killed process loses nothing that it wrote: its pages stay with the kernel. That NATS syncs its files
// only now and then (sync_interval) matters when the machine loses its power, which this does not prove.
func TestKill9(t *testing.T) {
	kills := number(t, killsVariable, defaultKills)
	seed := number(t, seedVariable, uint64(time.Now().UnixNano()))
	k := &kill9{
		data: t.TempDir(), rand: rand.New(rand.NewPCG(seed, 0)), sent: newLedger(), crowd: &survivors{},
		journal: map[string]uint64{}, totals: map[string]int{},
	}
	t.Logf("%d kills; to repeat: %s=%d %s=%d", kills, killsVariable, kills, seedVariable, seed)
	defer func() { t.Logf("%d kills asked for, seed %d: %v", kills, seed, k.totals) }()
	for _, id := range []string{stayer, neutral, mover, "6250", "6251"} {
		k.crowd.join(t, id)
	}
	for range kills {
		k.start(t)
		k.trafficUntilKilled(t)
	}
	k.start(t)
	if kills > defaultKills {
		k.awaitQueue(t)
	}
	k.checkLog(t)
	for _, client := range k.crowd.clients {
		k.totals["connections"] += client.connections()
	}
	k.dev.Stop(t)
}

func number(t *testing.T, variable string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// kill9 is one system over its many lives. The test's goroutine uses it.
type kill9 struct {
	data    string
	rand    *rand.Rand
	dev     *harness.Dev
	sent    *ledger
	crowd   *survivors
	head    uint64            // up to which the journal was read
	journal map[string]uint64 // sequence of every command id of ours, as read record by record
	moving  bool              // a cutover is started at that point of the journal
	totals  map[string]int
}

// start begins a life, and holds everything against what was acknowledged in the lives before.
func (k *kill9) start(t *testing.T) {
	t.Helper()
	began := time.Now()
	k.dev = harness.StartDev(t, "--data", k.data)
	k.totals["starting, ms"] += int(time.Since(began).Milliseconds())
	began = time.Now()
	k.crowd.open(k.dev.Edges(t, "unbj")[0])
	k.readOn(t)
	k.checkSent(t)
	k.askAgain(t)
	k.settleCutovers(t)
	k.checkStates(t)
	k.checkClients(t)
	k.totals["checking, ms"] += int(time.Since(began).Milliseconds())
}

// checkSent compares the journal with the acknowledgements.
func (k *kill9) checkSent(t *testing.T) {
	t.Helper()
	for _, c := range k.sent.all {
		switch seq, there := k.journal[c.id]; {
		case c.seq != 0 && !there:
			t.Fatalf("unit.put %s was acknowledged with sequence %d, and is not in the journal up to %d", c.id, c.seq, k.head)
		case c.seq != 0 && seq != c.seq:
			t.Fatalf("unit.put %s was acknowledged with sequence %d, the journal has it at %d", c.id, c.seq, seq)
		}
	}
}

// askAgain sends what was not acknowledged, and some of the rest, with the same ids again.
func (k *kill9) askAgain(t *testing.T) {
	t.Helper()
	s := dial(t, k.dev, k.sent)
	defer s.nc.Close()
	for i, c := range k.sent.all {
		if c.seq != 0 && i < len(k.sent.all)-5 {
			continue
		}
		seq, there := k.journal[c.id]
		got := s.must(t, c)
		switch {
		case there && got != seq:
			t.Fatalf("unit.put %s is in the journal at %d, and sent again it answers %d", c.id, seq, got)
		case !there:
			k.totals["took effect when sent again"]++
		case c.seq == 0:
			k.totals["had taken effect unacknowledged"]++
		}
		k.totals["sent again"]++
		c.seq = got
	}
	k.readOn(t)
	k.checkSent(t)
}

// settleCutovers expects that a cutover which was running ends, or says why it does not.
func (k *kill9) settleCutovers(t *testing.T) {
	t.Helper()
	for _, c := range k.cutovers(t) {
		if c.State != "started" && c.State != "paused" {
			continue
		}
		k.totals["cutovers under way at a start, "+c.State]++
		ended := k.dev.AwaitCutover(t, c.ID, within, "ended or paused", func(c harness.Cutover) bool { return c.State != "started" })
		if ended.State == "paused" {
			if ended.Reason == nil || ended.Reason.Code == "" {
				t.Errorf("cutover %s is paused without a reason: %+v", c.ID, ended)
			}
			k.dev.Cutover(t, "resume", c.ID, "--reason", "after the kill")
			ended = k.dev.AwaitCutover(t, c.ID, within, "completed after it was resumed", func(c harness.Cutover) bool { return c.State == "completed" })
		}
		k.totals["cutovers "+ended.State+" after a kill"]++
	}
}

func (k *kill9) cutovers(t *testing.T) []harness.Cutover {
	t.Helper()
	var all []harness.Cutover
	k.dev.Run(t, "get", "cutovers").OK(t).JSON(t, &all)
	return all
}

// checkStates expects the control plane, the CLI, which replays the journal, and every edge at the head with one state.
func (k *kill9) checkStates(t *testing.T) {
	t.Helper()
	proposed := k.dev.Cutover(t, "preview", "--exact", "center="+neutral) // which stays where it is
	if !harness.Poll(within, func() bool {
		proposed = k.dev.Cutover(t, "check", proposed.ID) // compares the control plane's state hash with the edges'
		return slices.ContainsFunc(proposed.Checks, func(c harness.Check) bool { return c.ID == "edges-at-head" && c.State == "pass" })
	}) {
		t.Fatalf("the edges have another state than the control plane: %+v", proposed.Checks)
	}
	var proof struct {
		OK        bool   `json:"ok"`
		Head      uint64 `json:"head"`
		StateHash string `json:"stateHash"`
	}
	var edges []harness.Edge
	if !harness.Poll(within, func() bool {
		k.dev.Run(t, "journal", "verify").OK(t).JSON(t, &proof)
		edges = k.dev.API.Edges(t)
		return proof.OK && len(edges) == 4 && !slices.ContainsFunc(edges, func(e harness.Edge) bool {
			return !e.Live || e.Applied != proof.Head || e.Head != proof.Head || e.StateHash != proof.StateHash
		})
	}) {
		t.Fatalf("the journal says %+v, the edges say %+v", proof, edges)
	}
}

// checkClients expects every client in this life, at the unit that owns its slot.
func (k *kill9) checkClients(t *testing.T) {
	t.Helper()
	for _, client := range k.crowd.clients {
		unit := k.dev.Route(t, client.id).Unit
		if !harness.Poll(within, func() bool { return client.at(k.crowd.life()) == unit }) {
			t.Fatalf("client %s belongs to %s, and is served by %q", client.id, unit, client.at(k.crowd.life()))
		}
	}
}

// awaitQueue expects that every durable command that was queued has its outcome, the same as over the api.
func (k *kill9) awaitQueue(t *testing.T) {
	t.Helper()
	s := dial(t, k.dev, k.sent)
	defer s.nc.Close()
	for _, c := range k.sent.all {
		if !c.queued {
			continue
		}
		k.totals["queued commands settled"]++
		if o := s.settled(t, c.id, redelivered); !o.OK || o.Seq != c.seq {
			t.Errorf("the durable unit.put %s ended as %+v, over the api it has the sequence %d", c.id, o, c.seq)
		}
	}
	k.readOn(t)
	k.checkSent(t)
}

// checkLog reads everything once more, as an operator does, and compares it with what was read life by life.
func (k *kill9) checkLog(t *testing.T) {
	t.Helper()
	seen := map[string]uint64{}
	k.readOn(t)
	for line := range strings.Lines(k.dev.Run(t, "log", "--entity", "unit").OK(t).Stdout) {
		var e struct {
			Seq       uint64 `json:"seq"`
			CommandID string `json:"commandId"`
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("log: %v in %q", err, line)
		}
		if first := seen[e.CommandID]; first != 0 {
			t.Errorf("log shows the command %s at %d and at %d", e.CommandID, first, e.Seq)
		}
		seen[e.CommandID] = e.Seq
	}
	for _, c := range k.sent.all {
		if seen[c.id] != c.seq {
			t.Errorf("log shows unit.put %s at %d, it was acknowledged with %d", c.id, seen[c.id], c.seq)
		}
	}
	k.totals["commands"], k.totals["events"] = len(k.sent.all), int(k.head)
	if entries, err := os.ReadDir(filepath.Join(k.data, "edges")); err != nil || len(entries) != 4 {
		t.Errorf("the edges' directories: %v, %v", entries, err)
	}
}
