package roles_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// What a controller may have taken at its peak, and an edge that holds 250 sessions.
const mostMemory = 256 << 20

// settings are how long it runs, and with which seed.
func settings(t *testing.T) (time.Duration, uint64) {
	text := os.Getenv("UNITGATE_ROLE_FUZZ")
	if text == "" {
		t.Skip("it needs a minute or more of both cores: UNITGATE_ROLE_FUZZ=60s runs it, UNITGATE_SEED replays it")
	}
	length, err := time.ParseDuration(text)
	if err != nil || length < 10*time.Second {
		t.Fatalf("UNITGATE_ROLE_FUZZ=%s: want a duration of 10s or more", text)
	}
	seed := rand.Uint64()
	if text := os.Getenv("UNITGATE_SEED"); text != "" {
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("UNITGATE_SEED=%s: want a number", text)
		}
	}
	return length, seed
}

// TestRoles speaks as every role while clients talk and a cutover goes to and fro, half
// of the time under each ownership.
func TestRoles(t *testing.T) {
	length, seed := settings(t)
	t.Logf("UNITGATE_SEED=%d", seed)
	policies := []string{"ownership: available", "ownership: exclusive, lease: 15s"}
	if seed%2 == 1 {
		slices.Reverse(policies)
	}
	l := newLab(t)
	s := startSystem(t, l, policies[0])
	if err := l.tap.listen(l.connect(t, s.NATS, "control", l.keys.Inbox("control"), func(err error) { t.Logf("tap: %v", err) })); err != nil {
		t.Fatal(err)
	}
	c := &crowd{t: t, domain: domain, addrs: map[string][]string{"center": {s.edges[0].addr, s.edges[1].addr}, "unbj": {s.edges[2].addr, s.edges[3].addr}}}
	talking, hush := context.WithCancel(t.Context())
	defer c.running.Wait()
	defer hush()
	c.start(talking)
	s.stands(t, c)
	before := s.journal(t)

	fuzzing, stop := context.WithCancel(t.Context())
	var speaking sync.WaitGroup
	var mouths []*mouth
	for _, r := range l.roles {
		m := l.open(t, s.NATS, r, seed)
		mouths = append(mouths, m)
		speaking.Go(func() { m.speak(fuzzing) })
		speaking.Go(func() { m.besiege(fuzzing, seed) })
	}
	defer func() {
		stop()
		speaking.Wait()
		for _, m := range mouths {
			m.tell(t)
		}
		if n := c.lost.Load(); n > 0 {
			t.Errorf("%d of %d clients have failed", n, clients)
		}
	}()
	began, cutovers := time.Now(), 0
	for half, policy := range policies {
		if half > 0 {
			s.apply(t, policy)
		}
		end := began.Add(length / time.Duration(len(policies)) * time.Duration(half+1))
		for first := true; first || time.Now().Before(end); first = false {
			s.cut(t, c, cutovers)
			cutovers++
			s.healthy(t)
			if t.Failed() {
				return
			}
		}
	}
	stop()
	speaking.Wait()
	s.same(t)
	s.unchanged(t, before, s.journal(t))
	s.healthy(t)
	t.Logf("%v, %d cutovers, %d clients: %d echoes, %d moves; held too long %d times", time.Since(began).Round(time.Second), cutovers, clients, c.talked.Load(), c.moved.Load(), c.put503.Load())
	for _, p := range slices.Concat(s.controls, s.edges) {
		n, err := p.peak()
		t.Logf("%s: %d MiB at its peak, %v; it has logged %d KiB", p.id, n>>20, err, len(p.Stderr.String())>>10)
	}
	for _, e := range s.edges {
		s.nimble(t, e)
	}
	if int(c.moved.Load()) != cutovers*moving {
		t.Errorf("%d moves, and %d cutovers of %d clients", c.moved.Load(), cutovers, moving)
	}
	if o := s.seen.Overlaps(); len(o) > 0 {
		t.Errorf("in two units at once: %q", o)
	}
}

// stands waits until every client has a session.
func (s *system) stands(t *testing.T, c *crowd) {
	t.Helper()
	harness.Eventually(t, recovers, "all clients stand", func() bool { return int(c.standing.Load()) == clients || t.Failed() })
}

// cut moves the moving slots to the other unit, and nobody else.
func (s *system) cut(t *testing.T, c *crowd, n int) {
	t.Helper()
	border := []int{lastMoving, firstMoving - 1}[n%2]
	var cut harness.Cutover
	s.try(t, "cutover", "preview", "--range", fmt.Sprintf("center=0-%d", border), "--range", fmt.Sprintf("unbj=%d-9999", border+1), "--rate", "200").JSON(t, &cut)
	s.try(t, "cutover", "start", cut.ID)
	harness.Eventually(t, 2*recovers, "cutover "+cut.ID+" ends", func() bool {
		r := s.Run(t, "cutover", "show", cut.ID)
		return r.Code == 0 && json.Unmarshal([]byte(r.Stdout), &cut) == nil && (cut.State == "completed" && cut.Report != nil || slices.Contains([]string{"failed", "aborted", "paused"}, cut.State))
	})
	// Who is evicted by one edge and lands at another one that follows a moment later is evicted there once more.
	if cut.State != "completed" || cut.Report.Evicted < moving || cut.Report.Evicted > 2*moving || cut.Report.Untouched.ClosedByUs != 0 || !cut.Report.Untouched.Same {
		t.Errorf("cutover %s is %s: %+v, %+v", cut.ID, cut.State, cut.Reason, cut.Report)
	}
	harness.Eventually(t, recovers, "those who moved have landed", func() bool {
		return int(c.moved.Load()) >= (n+1)*moving && int(c.standing.Load()) == clients || t.Failed()
	})
}

// healthy: every process runs, within its bounds.
func (s *system) healthy(t *testing.T) {
	t.Helper()
	for _, p := range slices.Concat(s.controls, s.edges) {
		if !p.Running() {
			t.Errorf("%s has ended: %s", p.id, p.Stderr)
		}
	}
	for _, p := range slices.Concat(s.controls, s.edges) {
		if n, err := p.peak(); err != nil || n > mostMemory {
			t.Errorf("%s: %d MiB at its peak, %v", p.id, n>>20, err)
		}
	}
}

// nimble: no poller of an edge was at one thing for more than 5 ms of a processor. A thread's
// time has in it what the kernel did in its place for other sockets, and other goroutines
// where the poller was set aside, so a few slices may seem longer on a busy machine; the
// relay's own tests count steps, and allow none. How long a poller waited for a processor is
// told and not judged.
func (s *system) nimble(t *testing.T, e *process) {
	t.Helper()
	page, err := e.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	value := func(series string) float64 {
		for line := range strings.Lines(page) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), "unitgate_edge_poller_"+series+" "); ok {
				n, err := strconv.ParseFloat(v, 64)
				if err != nil {
					t.Error(err)
				}
				return n
			}
		}
		t.Errorf("%s has no metric unitgate_edge_poller_%s", e.id, series)
		return 0
	}
	within := func(le string) float64 { return value(`slice_seconds_bucket{le="` + le + `"}`) }
	all := value("slice_seconds_count")
	t.Logf("%s: %v slices of pollers' work, %v of up to 1 ms, %v of up to 5 ms, %v of up to 10 ms; the longest run lately took %.1f ms with its waiting, %v ever took over 5 ms",
		e.id, all, within("0.001"), within("0.005"), within("0.01"), 1e3*value("longest_run_seconds"), value("overruns_total"))
	if all == 0 || within("0.005") < all*0.995 || within("0.25") < all {
		t.Errorf("%s: of %v slices %v took at most 5 ms of a processor, and %v at most 250 ms", e.id, all, within("0.005"), within("0.25"))
	}
}

// same: all processes come to hold one state.
func (s *system) same(t *testing.T) {
	t.Helper()
	var states []string
	if !harness.Poll(recovers, func() bool {
		states = nil
		for _, p := range slices.Concat(s.controls, s.edges) {
			text, err := p.get("/status")
			var status struct {
				Applied    uint64
				StateHash  string
				Namespaces []struct {
					Applied   uint64
					StateHash string
				}
			}
			if err == nil {
				err = json.Unmarshal([]byte(text), &status)
			}
			if len(status.Namespaces) == 1 {
				status.Applied, status.StateHash = status.Namespaces[0].Applied, status.Namespaces[0].StateHash
			}
			states = append(states, fmt.Sprintf("%d %s %v", status.Applied, status.StateHash, err))
		}
		return len(slices.Compact(slices.Clone(states))) == 1 && !strings.HasPrefix(states[0], "0 ")
	}) {
		t.Errorf("controllers and edges differ: %q", states)
	}
	s.as("observer").Run(t, "journal", "verify").OK(t)
}

// unchanged: no office was taken, and no edge has come or gone.
func (s *system) unchanged(t *testing.T, before, after []event) {
	t.Helper()
	count := func(events []event, types ...string) (n int) {
		for _, e := range events {
			if slices.Contains(types, e.Type) {
				n++
			}
		}
		return n
	}
	for _, e := range after[len(before):] {
		if !slices.Contains([]string{
			"CutoverProposed", "CutoverChecked", "CutoverStarted", "WaveFenced", "WaveCommitted", "CutoverCompleted", "CutoverReported", "ConfigApplied", "OwnershipEstablished",
			"CommandRefused", // durable ones, see decision record 0008
		}, e.Type) {
			t.Errorf("event %d, %s by %q: %.200s", e.Seq, e.Type, e.Actor, e.Data)
		}
	}
	if n := count(after, "DriverTookOffice"); n != 1 {
		t.Errorf("the office was taken %d times", n)
	}
	if n := count(after, "EdgeJoined"); n != len(s.edges) {
		t.Errorf("%d joins of %d edges", n, len(s.edges))
	}
}
