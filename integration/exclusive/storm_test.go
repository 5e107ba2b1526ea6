package exclusive

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// wire is one process's way to the server, which can be cut by itself.
type wire struct {
	srv *journaltest.Server

	mu    sync.Mutex // guards what follows
	cut   bool
	conns []net.Conn
}

// InProcessConn implements nats.InProcessConnProvider.
func (w *wire) InProcessConn() (net.Conn, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cut {
		return nil, errors.New("cut by the test")
	}
	c, err := w.srv.InProcessConn()
	if err == nil {
		w.conns = append(w.conns, c)
	}
	return c, err
}

func (w *wire) set(cut bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut = cut
	if cut {
		for _, c := range w.conns {
			c.Close()
		}
		w.conns = nil
	}
}

// place is where one process after another runs: a control process, or an edge with its state directory.
type place struct {
	s        *storm
	id, unit string // "" : a control process
	path     string
	address  string
	wire     *wire
	nc       *nats.Conn
	plane    *plane
	door     *door
	stop     func() // nil: nothing runs
}

// storm is a namespace on real parts in virtual time while things fail: connections of one process or of all, processes,
// and the server. What it does is drawn from a seed; the order within one moment is the scheduler's.
type storm struct {
	t       *testing.T
	srv     *journaltest.Server
	rnd     *rand.Rand
	control [2]*place
	edges   []*place

	mu     sync.Mutex // guards what follows
	doors  []*door    // of the edges that run
	hashes map[uint64]string
}

func (p *place) start() {
	p.wire = &wire{srv: p.s.srv}
	p.nc = p.s.srv.Connect(nats.InProcessServer(p.wire))
	if p.unit == "" {
		p.plane, p.stop = runPlane(p.s.t, p.nc, uuid.NewString())
		return
	}
	p.door, p.stop = runEdge(p.s.t, p.nc, p.path, p.id, p.unit, p.address)
	p.s.gather()
}

// kill ends a process that has no time to say good-bye.
func (p *place) kill() {
	if p.stop == nil {
		return
	}
	p.wire.set(true)
	p.stop()
	p.nc.Close()
	p.stop, p.door = nil, nil
	p.s.gather()
}

// gather notes whose doors are open.
func (s *storm) gather() {
	var doors []*door
	for _, e := range s.edges {
		if e.door != nil {
			doors = append(doors, e.door)
		}
	}
	s.mu.Lock()
	s.doors = doors
	s.mu.Unlock()
}

// watch has every user dial every edge and checks G2 in one look at all of them, and that nobody is evicted whose key never
// moves (G1).
func (s *storm) watch(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(50 * time.Millisecond):
		}
		s.mu.Lock()
		doors := s.doors
		s.mu.Unlock()
		for _, d := range doors {
			for u := range 16 {
				d.dial(fmt.Sprint(u))
			}
		}
		for _, d := range doors {
			d.mu.Lock()
		}
		for u := range 16 {
			s.look(doors, fmt.Sprint(u), u < 4 || u > 11)
		}
		for _, d := range doors {
			d.mu.Unlock()
		}
	}
}

func (s *storm) look(doors []*door, user string, stays bool) {
	at := map[string]bool{}
	for _, d := range doors {
		if d.users[user] && d.leased() {
			at[d.unit] = true
		}
		if stays && d.evicted[user] {
			s.t.Errorf("G1: user %s of unit %s was evicted", user, d.unit)
		}
	}
	if len(at) > 1 {
		s.t.Errorf("G2: user %s is served by %v", user, at)
	}
}

// listen compares the hashes of states that edges report (G4).
func (s *storm) listen() {
	nc := s.srv.Connect(s.srv.Uncut())
	_, err := nc.Subscribe("unitgate.edge."+ns+".*.*.report", func(m *nats.Msg) {
		var r events.EdgeReport
		if json.Unmarshal(m.Data, &r) != nil || r.Applied == 0 {
			return
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if was, ok := s.hashes[r.Applied]; ok && was != r.StateHash {
			s.t.Errorf("G4: edge %s has another state at %d than others", r.Edge, r.Applied)
		}
		s.hashes[r.Applied] = r.StateHash
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

func newStorm(t *testing.T, srv *journaltest.Server, seed uint64) *storm {
	s := &storm{t: t, srv: srv, rnd: rand.New(rand.NewPCG(seed, 7)), hashes: map[uint64]string{}}
	season(t, srv)
	for i := range s.control {
		s.control[i] = &place{s: s}
		s.control[i].start()
	}
	ownership := []string{"available", "exclusive"}[seed%2]
	c := config(ownership)
	length := events.Duration(15 * time.Second)
	c.Policy.Lease = &length
	s.control[0].plane.do(events.ApplyConfig{Config: c})
	for i, unit := range []string{"center", "center", "unbj", "unbj"} {
		e := &place{s: s, id: fmt.Sprintf("e%d", i), unit: unit, path: t.TempDir(), address: fmt.Sprintf("127.0.0.1:%d", 7001+i)}
		s.edges = append(s.edges, e)
		e.start()
	}
	s.listen()
	return s
}

// harm lets one thing fail.
func (s *storm) harm() {
	span := time.Duration(s.rnd.Int64N(int64(12 * time.Second)))
	e, c := s.edges[s.rnd.IntN(len(s.edges))], s.control[s.rnd.IntN(2)]
	switch s.rnd.IntN(6) {
	case 0:
		e.wire.set(true)
		time.AfterFunc(span, func() { e.wire.set(false) })
	case 1:
		c.wire.set(true)
		time.AfterFunc(span, func() { c.wire.set(false) })
	case 2:
		e.kill()
		time.Sleep(span / 4)
		e.start()
	case 3:
		c.kill()
		time.Sleep(span / 4)
		c.start()
	case 4:
		s.srv.Cut()
		time.Sleep(span / 2)
		s.srv.Heal()
	default:
		s.srv.Stop()
		time.Sleep(span / 2)
		s.srv.Start()
	}
}

// operate proposes, starts, pauses and resumes cutovers, through whichever control process answers.
func (s *storm) operate(calm bool) {
	p := s.control[s.rnd.IntN(2)].plane
	head := p.projector.State()
	c, running := head.Running("user")
	switch {
	case !running && !calm:
		if o := p.try(events.PreviewCutover{Ranges: ranges(4 + s.rnd.Uint32N(8)), Waves: 1 + s.rnd.IntN(3)}); !o.OK {
			return
		}
		id := fmt.Sprintf("c%d", p.projector.State().CutoverCount)
		for _, k := range events.CheckIDs() {
			p.try(events.SkipCheck{Cutover: id, Check: k})
		}
		p.try(events.StartCutover{Cutover: id})
	case running && c.State == events.Paused:
		p.try(events.ResumeCutover{Cutover: c.ID})
	case running && !calm && s.rnd.IntN(8) == 0:
		p.try(events.PauseCutover{Cutover: c.ID})
	}
}

// settle waits until everything has converged.
func (s *storm) settle() {
	var wrong string
	for range 240 {
		if wrong = s.unsettled(); wrong == "" {
			return
		}
		s.operate(true)
		time.Sleep(500 * time.Millisecond)
	}
	s.t.Errorf("two minutes after the last fault: %s", wrong)
}

func (s *storm) unsettled() string {
	head := s.control[0].plane.projector.State()
	if other := s.control[1].plane.projector.State(); other.Seq != head.Seq {
		return fmt.Sprintf("the control processes are at %d and %d", head.Seq, other.Seq)
	}
	if a, b := s.control[0].plane.manager.Leading(), s.control[1].plane.manager.Leading(); a == b {
		return fmt.Sprintf("in office: %v, %v", a, b)
	}
	if c, ok := head.Running("user"); ok {
		return fmt.Sprintf("cutover %s is %s: %+v", c.ID, c.State, c.Why)
	}
	table := head.Table("user")
	for _, e := range s.edges {
		for u := range 16 {
			user := fmt.Sprint(u)
			if owns := table.Lookup(user).Unit == e.unit; owns != e.door.serving(user) {
				return fmt.Sprintf("edge %s of %s serves %s: %v", e.id, e.unit, user, !owns)
			}
		}
	}
	return ""
}

// TestStorms plays seeds with the real driver processes and agents on a real JetStream, in virtual time; half of them under
// exclusive ownership. UNITGATE_STORMS says how many.
func TestStorms(t *testing.T) {
	runs := 2 // one of each ownership
	if text := os.Getenv("UNITGATE_STORMS"); text != "" {
		var err error
		if runs, err = strconv.Atoi(text); err != nil {
			t.Fatalf("UNITGATE_STORMS: %v", err)
		}
	}
	cutovers := 0
	for seed := range uint64(runs) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
				s := newStorm(t, srv, seed)
				stop, watched := make(chan struct{}), make(chan struct{})
				go func() { defer close(watched); s.watch(stop) }()
				for end := time.Now().Add(60 * time.Second); time.Now().Before(end) && !t.Failed(); {
					if s.rnd.IntN(3) == 0 {
						s.harm()
					}
					s.operate(false)
					time.Sleep(time.Duration(s.rnd.Int64N(int64(2 * time.Second))))
				}
				time.Sleep(13 * time.Second) // until the last wire is whole again
				s.settle()
				cutovers += int(s.control[0].plane.projector.State().CutoverCount)
				close(stop)
				<-watched
				for _, p := range append(s.edges, s.control[:]...) {
					p.kill()
				}
			})
		})
	}
	t.Logf("%d storms, %d cutovers", runs, cutovers)
	if cutovers < runs {
		t.Error("the storms do not reach what they are for")
	}
}
