package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

// edge is an edge replica: the agent's machine, the glue around it, the state directory, and a model of the relay.
type edge struct {
	*node
	id, unit, cluster string
	dir               string   // identity of its state directory (R7)
	keys              identity // of that directory
	machine           *agent.Agent
	self              agent.Self
	reader            reader
	relay             *relay
	disk              disk
	lease             lease
	installed         *events.State // by which every poller decides: what Counted is about
	joining           bool
	gone              bool // its process ended for good
	slow              time.Duration
	excused           uint64 // sequence of the event by which an operator did without it; 0: no one did
}

// disk is a state directory: what survives a crash is what fsync has returned for, or what was just being written.
type disk struct {
	synced  *events.State // nil: empty
	writing *events.State // valid while a write is under way
	broken  time.Duration // writes fail until then
}

func (w *world) newEdge(id, unit string) *edge {
	keys := identityOf(len(w.edges))
	e := &edge{node: w.newNode(id), id: id, unit: unit, cluster: "c-" + unit, dir: events.Fingerprint(keys.key), keys: keys}
	w.edges = append(w.edges, e)
	return e
}

// clock gives the agent a time that never goes back, as Go's monotonic clock does.
func (e *edge) clock() time.Time { return day.Add(e.now()) }

func (e *edge) boot() {
	if e.gone || e.up {
		return
	}
	e.start()
	w := e.w
	if e.disk.writing != nil && w.chance(0.5) {
		e.disk.synced = e.disk.writing // the rename reached the disk although fsync had not returned
	}
	e.disk.writing = nil
	e.self = agent.Self{Namespace: namespace, Unit: e.unit, Cluster: e.cluster, ID: e.id, Directory: e.dir, Incarnation: w.incarnation(e.node)}
	e.machine = agent.New(e.self)
	e.relay = newRelay(e)
	e.installed, e.joining, e.lease = nil, false, lease{timer: e.lease.timer}
	e.reader = reader{w: w, node: e.node, own: e.index%5 == 0}
	w.trace("%s starts with %d on disk", e.name, seqOf(e.disk.synced))
	if s := e.disk.synced; s != nil {
		s, err := events.DecodeState(s.Encode())
		if err != nil {
			w.bug("G4", "%s cannot read its disk: %v", e.name, err)
			return
		}
		e.reader.state = s
		e.step(agent.Restored{Now: e.clock(), Epoch: epoch, State: s, Hash: s.Hash()})
	}
	e.every("tick", 250*time.Millisecond, func() {
		e.count()
		e.step(agent.Tick{Now: e.clock()})
	})
	e.every("read", 400*time.Millisecond, e.read)
	e.read()
}

func seqOf(s *events.State) uint64 {
	if s == nil {
		return 0
	}
	return s.Seq
}

// crash ends the process; what its disk keeps is decided when it starts again.
func (e *edge) crash(away time.Duration) {
	if !e.up {
		return
	}
	e.w.trace("%s dies", e.name)
	e.stop()
	e.relay.die()
	e.machine = nil
	if away > 0 {
		e.w.after(away, e.boot)
	}
}

func (e *edge) read() {
	e.reader.fetch(func(s *events.State) {
		e.count() // just before, as the runner does
		e.step(agent.Advanced{Now: e.clock(), Epoch: epoch, State: s})
	})
	e.join()
}

// join sees to it that the journal holds this edge, as the runner's joiner does.
func (e *edge) join() {
	s := e.reader.state
	if s == nil || e.joining {
		return
	}
	want := joinOf(e)
	if have, known := s.Edges[e.id]; known {
		if have.Gone != "" || have.Directory != e.dir {
			e.w.trace("%s finds itself gone or registered for another directory, and ends", e.name)
			if e.w.chance(0.5) { // or asks all the same, from another address, as one that has not heard would
				want.Address = fmt.Sprintf("127.0.0.1:%d", 8000+e.index)
				e.w.submit(e.node, events.Envelope{ID: e.w.uuid(3), Actor: "edge/" + e.id, Signer: e.keys.signer, Command: want}, nil)
			}
			e.gone = true
			e.crash(0)
			return
		}
		if have.Address == want.Address {
			return
		}
	}
	if s.Seq < e.w.journal.seq() { // only who knows the head knows that it must join
		return
	}
	e.joining = true
	e.w.submit(e.node, events.Envelope{ID: e.w.uuid(3), Actor: "edge/" + e.id, Signer: e.keys.signer, Command: want}, func(_ cutover.Fate, _ uint64, err error) {
		e.after(time.Second, func() { e.joining = false })
		if err != nil {
			e.w.trace("%s may not join: %v", e.name, err)
			if final(err) {
				e.gone = true
				e.crash(0)
			}
		}
	})
}

func (e *edge) count() {
	e.step(agent.Counted{Now: e.clock(), Epoch: epochOf(e.installed), Seq: seqOf(e.installed), Counts: map[string]agent.Counts{unitType: e.relay.counts}})
}

func epochOf(s *events.State) string {
	if s == nil {
		return ""
	}
	return epoch
}

func (e *edge) step(in agent.Input) {
	for _, out := range e.machine.Step(in) {
		if !e.up {
			return
		}
		switch out := out.(type) {
		case agent.Install:
			e.relay.install(agent.BuildView(out.State, e.self, agent.Dev{}), func() {
				e.installed = out.State
				e.step(agent.Installed{Now: e.clock(), Epoch: out.Epoch, Seq: out.State.Seq})
				e.count() // what the install left counts for drained
			})
		case agent.Store:
			e.store(out)
		case agent.Evict:
			e.relay.evict(int(out.Rate))
		case agent.Report:
			e.report(out.EdgeReport)
		case agent.Ask:
			e.ask(out.LeaseRequest)
		case agent.CatchUp:
			e.read()
		case agent.Hold:
			e.hold(out)
		case agent.Lapse:
			e.lapse()
		case agent.Free:
			e.free()
		}
	}
}

// store writes a state: the caller learns of it after fsync.
func (e *edge) store(o agent.Store) {
	w := e.w
	e.disk.writing = o.State
	delay := time.Millisecond + w.span(10*time.Millisecond) + w.span(e.slow+1)
	e.w.after(delay, e.mine(func() {
		e.disk.writing = nil
		if w.now < e.disk.broken {
			e.step(agent.Failed{Now: e.clock(), Output: o})
			return
		}
		e.disk.synced = o.State
		e.step(agent.Stored{Now: e.clock(), Epoch: o.Epoch, Seq: o.State.Seq, Hash: w.journal.hash(o.State.Seq)})
	}))
}

// report publishes to whoever drives.
func (e *edge) report(r events.EdgeReport) {
	e.w.reported(e, r)
	e.w.forger.overhear(overheard{report: r, signer: e.keys.signer})
	for _, d := range e.w.drivers {
		e.w.send(e.node, d.node, func() { d.hear(r, e.keys.signer) })
	}
}

func joinOf(e *edge) events.JoinEdge {
	return events.JoinEdge{ID: e.id, Directory: e.dir, Unit: e.unit, Cluster: e.cluster, Address: addressOf(e), Key: e.keys.key}
}

func addressOf(e *edge) string { return fmt.Sprintf("127.0.0.1:%d", 7000+e.index) }

// final tells whether a refusal of a join stands for ever.
func final(err error) bool {
	return errors.Is(err, events.ErrEdgeGone) || errors.Is(err, events.ErrEdgeElsewhere) || errors.Is(err, events.ErrEdgeMoved)
}
