package cutover

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
)

// The prechecks that ask edges and the journal.

const (
	headWait   = 2 * time.Second // for edges that are a moment behind
	headPoll   = 50 * time.Millisecond
	quorumWait = 3 * time.Second
	probeBatch = 128 // origins in one question: as many as an edge dials at once, so that it answers in time
)

// edgesAtHead: every registered edge answers now, has applied the journal's head as it stood when the check began, and
// has the state that the control plane has at that sequence. Each edge is asked by itself, and again while it is a
// moment behind, so that a silent one takes no time from the others.
func (p *Preparer) edgesAtHead(ctx context.Context, s *events.State) events.Check {
	edges := s.LiveEdges()
	if len(edges) == 0 {
		return failed("0 of 0", "no edge has joined: start at least one in every unit")
	}
	seen := &hashes{source: p.source, bySeq: map[uint64]string{s.Seq: s.Hash()}}
	standings := make([]standing, len(edges))
	var all sync.WaitGroup
	for i, e := range edges {
		all.Go(func() { standings[i] = p.standing(ctx, e, s.Seq, seen) })
	}
	all.Wait()
	good := 0
	var silent, wrong []string
	for _, st := range standings {
		switch {
		case st.why == "":
			good++
		case st.silent:
			silent = append(silent, st.why)
		default:
			wrong = append(wrong, st.why)
		}
	}
	measured := fmt.Sprintf("%d of %d edges at sequence %d or later", good, len(edges), s.Seq)
	var why []string
	if len(silent) > 0 {
		why = append(why, few(silent, "; ")+": restart it, or retire it if it is gone for good")
	}
	if len(wrong) > 0 {
		why = append(why, few(wrong, "; ")+": look at its log and its way to NATS")
	}
	if len(why) > 0 {
		return failed(measured, "%s; then retry", strings.Join(why, "; "))
	}
	return passed(measured, "every edge answers and has the control plane's state")
}

// standing is how one edge stands to the head: well if why is empty.
type standing struct {
	why    string
	silent bool // it did not answer
}

// standing asks one edge until it is right, or wrong for good, or headWait is over.
func (p *Preparer) standing(ctx context.Context, e events.Edge, head uint64, seen *hashes) standing {
	poll := time.NewTicker(headPoll)
	defer poll.Stop()
	for deadline := time.Now().Add(headWait); ; {
		a := p.fleet.Status(ctx, []events.Edge{e})[0]
		if a.Err != nil {
			return standing{why: a.Err.Error(), silent: true}
		}
		why, again := seen.compare(e, a.Value.EdgeReport, head)
		if !again || time.Now().After(deadline) {
			return standing{why: why}
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return standing{why: why}
		}
	}
}

// hashes are the control plane's state hashes by sequence, as far as they have been seen. Any goroutine may use them.
type hashes struct {
	source Source
	mu     sync.Mutex // guards bySeq
	bySeq  map[uint64]string
}

// compare says what is wrong with a report, "" if nothing is, and whether that may be over in a moment.
func (h *hashes) compare(e events.Edge, r events.EdgeReport, head uint64) (why string, again bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := h.source.State(); h.bySeq[now.Seq] == "" {
		h.bySeq[now.Seq] = now.Hash()
	}
	want, known := h.bySeq[r.Applied]
	id := e.ID
	switch {
	case r.Directory != e.Directory:
		return fmt.Sprintf("a process with the id of edge %s and another state directory answers: stop it", id), false
	case r.Epoch != h.source.Journal().Epoch():
		return fmt.Sprintf("edge %s follows another journal (epoch %s)", id, r.Epoch), false
	case r.Applied < head:
		return fmt.Sprintf("edge %s is at sequence %d of %d", id, r.Applied, head), true
	case !known: // ahead of what was seen here, or already beyond it
		return fmt.Sprintf("edge %s is at sequence %d, which this control plane cannot compare", id, r.Applied), true
	case r.StateHash != want:
		return fmt.Sprintf("edge %s has another state at sequence %d (hash %.12s, want %.12s)", id, r.Applied, r.StateHash, want), false
	}
	return "", false
}

// journalQuorum: the journal has a leader and a majority of current replicas, and the cluster acknowledges a write.
// The first alone proves nothing: a leader that has lost its majority goes on answering for more than 20 s.
func (p *Preparer) journalQuorum(ctx context.Context) events.Check {
	ctx, cancel := context.WithTimeout(ctx, quorumWait)
	defer cancel()
	st, err := p.js.Stream(ctx, "UNITGATE_"+p.fleet.namespace)
	if err != nil {
		return failed("no answer", "the journal's stream does not answer (%v): see to the NATS servers, then retry", err)
	}
	current, total := 1, 1
	if c := st.CachedInfo().Cluster; c != nil && len(c.Replicas) > 0 {
		if c.Leader == "" {
			return failed("no leader", "the journal has no leader: see to the NATS servers, then retry")
		}
		for _, r := range c.Replicas {
			total++
			if r.Current && !r.Offline {
				current++
			}
		}
	}
	measured := fmt.Sprintf("%d of %d replicas current", current, total)
	if 2*current <= total {
		return failed(measured, "no majority of the journal's replicas is current: see to the NATS servers, then retry")
	}
	begun := time.Now()
	if err := p.writeProof(ctx, st.CachedInfo().Config.Replicas); err != nil {
		return failed(measured+", no write acknowledged", "%v: see to the NATS servers, then retry", err)
	}
	return passed(fmt.Sprintf("%s, write acknowledged in %s", measured, time.Since(begun).Round(100*time.Microsecond)), "the journal takes writes")
}

// writeProof has a write acknowledged by a quorum of as many replicas as the journal has. It goes to the office's bucket,
// under a key that cannot be a namespace's, since a write to the journal would be an event.
func (p *Preparer) writeProof(ctx context.Context, replicas int) error {
	kv, err := openOffice(ctx, p.js, replicas)
	if err != nil {
		return err
	}
	status, err := kv.Status(ctx)
	if err != nil {
		return fmt.Errorf("look at bucket %s: %w", OfficeBucket, err)
	}
	if b, ok := status.(*jetstream.KeyValueBucketStatus); ok && b.StreamInfo().Config.Replicas < replicas {
		return fmt.Errorf("bucket %s has %d replicas and the journal %d: give it as many", OfficeBucket, b.StreamInfo().Config.Replicas, replicas)
	}
	if _, err := kv.Put(ctx, "proof."+p.fleet.namespace, []byte(p.now().UTC().Format(time.RFC3339Nano))); err != nil {
		return fmt.Errorf("a write of proof was not acknowledged: %w", err)
	}
	return nil
}

// targetOrigins: the edges of every unit that gains keys reach every origin that the unit has for the unit type's
// domains. At least one edge of the unit must answer, and each origin must be reached from every edge that answers.
func (p *Preparer) targetOrigins(ctx context.Context, s *events.State, c *events.Cutover) events.Check {
	domains := activeDomains(s, c.UnitType)
	good, total, asked, answered := 0, 0, 0, 0
	var why []string
	for _, unit := range gaining(c) {
		all, without := origins(domains, unit)
		for _, uri := range without {
			why = append(why, fmt.Sprintf("unit %s has no origin for %s: configure one", unit, uri))
		}
		if len(all) == 0 {
			why = append(why, fmt.Sprintf("unit %s has no origin for unit type %s: configure one", unit, c.UnitType))
			continue
		}
		total += len(all)
		edges := slices.DeleteFunc(s.LiveEdges(), func(e events.Edge) bool { return e.Unit != unit })
		bad, n := p.probe(ctx, edges, all)
		asked, answered = asked+len(edges), answered+n
		if n == 0 {
			why = append(why, fmt.Sprintf("no edge of unit %s answers: start one", unit))
			continue
		}
		good += len(all) - len(bad)
		for _, o := range slices.Sorted(maps.Keys(bad)) {
			why = append(why, bad[o])
		}
	}
	measured := fmt.Sprintf("%d of %d origins, asked by %d of %d edges", good, total, answered, asked)
	if len(why) > 0 {
		return failed(measured, "%s; then retry", few(why, "; "))
	}
	return passed(measured, "every origin of the gaining units can be connected to")
}

// probe has edges connect to origins. It returns those that some answering edge did not reach, with the reason, and how
// many edges answered every question.
func (p *Preparer) probe(ctx context.Context, edges []events.Edge, all []string) (bad map[string]string, answered int) {
	bad = map[string]string{}
	mute := map[string]bool{}
	for batch := range slices.Chunk(all, probeBatch) {
		for _, a := range p.fleet.Probe(ctx, edges, batch) {
			if a.Err != nil {
				mute[a.Edge.ID] = true
				continue
			}
			for o, reason := range a.Value.Failed {
				bad[o] = fmt.Sprintf("edge %s cannot connect to origin %s: %s", a.Edge.ID, o, reason)
			}
		}
	}
	return bad, len(edges) - len(mute)
}
