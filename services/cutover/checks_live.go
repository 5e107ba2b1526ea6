package cutover

import (
	"context"
	"fmt"
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
		return reading{"0 of 0", "1 or more"}.fail("no edge has joined: start at least one in every unit")
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
	r := reading{fmt.Sprintf("%d of %d edges at sequence %d or later", good, len(edges), s.Seq), fmt.Sprintf("%d of %d", len(edges), len(edges))}
	var why []string
	if len(silent) > 0 {
		why = append(why, few(silent, "; ")+": restart it, or retire it if it is gone for good")
	}
	if len(wrong) > 0 {
		why = append(why, few(wrong, "; ")+": look at its log and its way to NATS")
	}
	if len(why) > 0 {
		return r.fail("%s; then retry", strings.Join(why, "; "))
	}
	return r.pass("every edge answers and has the control plane's state")
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
	const wanted = "a majority, and a write acknowledged"
	st, err := p.js.Stream(ctx, "UNITGATE_"+p.fleet.namespace)
	if err != nil {
		return reading{"no answer", wanted}.fail("the journal's stream does not answer (%v): see to the NATS servers, then retry", err)
	}
	current, total := 1, 1
	if c := st.CachedInfo().Cluster; c != nil && len(c.Replicas) > 0 {
		if c.Leader == "" {
			return reading{"no leader", wanted}.fail("the journal has no leader: see to the NATS servers, then retry")
		}
		for _, r := range c.Replicas {
			total++
			if r.Current && !r.Offline {
				current++
			}
		}
	}
	r := reading{fmt.Sprintf("%d of %d replicas current", current, total), wanted}
	if 2*current <= total {
		return r.fail("no majority of the journal's replicas is current: see to the NATS servers, then retry")
	}
	begun := time.Now()
	if err := p.writeProof(ctx, st.CachedInfo().Config.Replicas); err != nil {
		r.measured += ", no write acknowledged"
		return r.fail("%v: see to the NATS servers, then retry", err)
	}
	r.measured += fmt.Sprintf(", write acknowledged in %s", time.Since(begun).Round(100*time.Microsecond))
	return r.pass("the journal takes writes")
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
