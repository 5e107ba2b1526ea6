package exclusive

import (
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

const (
	lease   = 30 * time.Second
	silence = lease + events.LeaseMargin
)

// crowd are users who keep dialling every edge, and the watch over them: no user is ever served by two units (G2).
type crowd struct {
	t     *testing.T
	doors []*door
	stop  chan struct{}
	done  chan struct{}
}

func (c *crowd) run() {
	defer close(c.done)
	for {
		select {
		case <-c.stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
		for u := range 16 {
			user, at := fmt.Sprint(u), map[string]bool{}
			for _, d := range c.doors {
				d.dial(user)
			}
			for _, d := range c.doors {
				if d.serving(user) {
					at[d.unit] = true
				}
			}
			if len(at) > 1 {
				c.t.Errorf("G2: user %s is served by %v", user, at)
				return
			}
		}
	}
}

// scene is a namespace with an edge in center and two in unbj, of which b1 and whatever else a test connects that way can
// be cut off, and its crowd. Ownership is available at first. The control process and b1 get the connections given.
type scene struct {
	*plane
	srv        *journaltest.Server
	b1, b2, h1 *door
}

func newScene(t *testing.T, srv *journaltest.Server, control, b1 *nats.Conn) *scene {
	season(t, srv)
	s := &scene{srv: srv, plane: startPlane(t, control, "11111111-1111-4111-8111-111111111111")}
	s.do(events.ApplyConfig{Config: config("available")})
	s.b1 = startEdge(t, b1, "b1", "unbj")
	s.b2 = startEdge(t, srv.Connect(srv.Uncut()), "b2", "unbj")
	s.h1 = startEdge(t, srv.Connect(srv.Uncut()), "h1", "center")
	s.until("three joins", 10*time.Second, func(s *events.State) bool { return len(s.Edges) == 3 })
	c := &crowd{t: t, doors: []*door{s.b1, s.b2, s.h1}, stop: make(chan struct{}), done: make(chan struct{})}
	go c.run()
	t.Cleanup(func() { close(c.stop); <-c.done })
	time.Sleep(time.Second)
	return s
}

// exclusive changes the ownership under everybody's sessions and waits until it counts.
func (s *scene) exclusive() {
	s.t.Helper()
	ownership := "exclusive"
	s.do(events.ApplyConfig{Base: s.projector.State().ConfigVersion, Config: events.Config{Namespace: ns, Policy: &events.PolicyPatch{Ownership: &ownership}}})
	s.until("exclusive ownership counts", 20*time.Second, func(s *events.State) bool { return s.Exclusive.Counts() })
}

func (s *scene) untouched(what string) {
	s.t.Helper()
	for _, d := range []*door{s.b1, s.b2, s.h1} {
		d.mu.Lock()
		if d.forbids > 0 {
			s.t.Errorf("%s: an edge of %s has reset its sessions", what, d.unit)
		}
		d.mu.Unlock()
	}
}

// The change to exclusive ownership closes nobody (G1); a cutover goes through and back by reports, and nobody waits for
// a lease.
func TestExclusiveCutover(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		s := newScene(t, srv, srv.Connect(), srv.Connect())
		s.exclusive()
		begun := time.Now()
		s.until("there", 5*time.Second, ended(s.begin(12)))
		s.until("and back", 5*time.Second, ended(s.begin(8)))
		t.Logf("two cutovers took %s", time.Since(begun))
		time.Sleep(2 * lease)
		s.untouched("leases are renewed")
		if !s.b1.connected("9") || !s.h1.connected("1") {
			t.Error("users of the owners are not connected")
		}
	})
}

// R5, R12: a losing edge is cut off from the bus. It serves to the end of its lease and no longer, also those who stay; the
// wave waits for its silence, says so, and is committed by it; nobody was served twice. When the edge comes back it begins
// with a new lease and the new rules (R3, R4).
func TestCutOffEdge(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		s := newScene(t, srv, srv.Connect(srv.Uncut()), srv.Connect())
		s.exclusive()
		time.Sleep(5 * time.Second)
		srv.Cut()
		cut := time.Now()
		id := s.begin(12)
		time.Sleep(10 * time.Second)
		if !s.b1.serving("14") || !s.b1.serving("9") {
			t.Error("a lease does not outlive a partition")
		}
		left := s.manager.Leases(t.Context()).Silence
		if len(left) != 1 || left["b1"] < 15 || left["b1"] > 25 {
			t.Errorf("shown to be waited for: %v", left)
		}
		time.Sleep(time.Until(cut.Add(lease)))
		if s.b1.connected("14") || s.b1.connected("9") || s.b1.dial("14") {
			t.Error("an edge serves beyond its lease")
		}
		state := s.until("the wave is committed", 60*time.Second, ended(id))
		if took := time.Since(cut); took < lease || took > silence+3*time.Second {
			t.Errorf("committed after %s", took)
		}
		c := state.Cutovers[id]
		for _, r := range c.Waves[0].Results {
			if r.Silent != (r.ID == "b1") {
				t.Errorf("%+v", r)
			}
		}
		srv.Heal()
		time.Sleep(10 * time.Second)
		if !s.b1.serving("14") || s.b1.connected("9") || !s.h1.serving("9") {
			t.Error("it does not come back to what is its own")
		}
		s.b2.mu.Lock()
		defer s.b2.mu.Unlock()
		if s.b2.forbids+s.h1.forbids > 0 {
			t.Error("others have reset sessions")
		}
	})
}

// R9: nobody grants anything: every edge stops at its lease's end, and starts when somebody does.
func TestNoDriver(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		s := newScene(t, srv, srv.Connect(), srv.Connect(srv.Uncut()))
		s.exclusive()
		srv.Cut() // the only control process
		time.Sleep(lease + events.LeaseEvery)
		for _, d := range []*door{s.b1, s.b2, s.h1} {
			if d.dial("1") || d.dial("14") {
				t.Errorf("an edge of %s serves without a lease", d.unit)
			}
		}
		srv.Heal()
		s.until("everybody is served again", 30*time.Second, func(*events.State) bool {
			return s.h1.serving("1") && s.b1.serving("14") && s.b2.serving("14")
		})
	})
}

// Leader and driver die at one moment, with a wave fenced: the bus is away for as long as an election takes, and another
// control process takes the office. No session is closed but those that move, and the cutover goes to its end.
func TestLeaderAndDriverDieTogether(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		s := newScene(t, srv, srv.Connect(), srv.Connect(srv.Uncut()))
		second := startPlane(t, srv.Connect(srv.Uncut()), "22222222-2222-4222-8222-222222222222")
		s.exclusive()
		time.Sleep(events.LeaseEvery - 100*time.Millisecond)
		if !s.manager.Leading() {
			t.Fatal("the first process is not in office")
		}
		id := s.begin(12)
		srv.Cut() // for good
		srv.Stop()
		time.Sleep(7 * time.Second)
		srv.Start()
		died := time.Now()
		second.until("the cutover ends", lease, ended(id))
		t.Logf("completed %s after the election", time.Since(died))
		time.Sleep(lease)
		s.untouched("an election and a take-over fit into a lease")
		if !s.b1.serving("14") || !s.h1.serving("9") || !s.h1.serving("1") {
			t.Error("somebody is not served")
		}
	})
}
