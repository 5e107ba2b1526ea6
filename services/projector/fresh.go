package projector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

const (
	// silence is how long no beacon may come before Standing asks for the head itself.
	silence = 3 * time.Second

	// headWait bounds that question.
	headWait = time.Second
)

// Listen hears the beacons of whoever is in office, this process included, until ctx ends. Without it staleness only grows.
func (p *Projector) Listen(ctx context.Context, nc *nats.Conn) error {
	namespace := p.journal.Namespace()
	sub, err := nc.Subscribe(events.BeaconSubject(namespace), func(m *nats.Msg) {
		var b events.Beacon
		if json.Unmarshal(m.Data, &b) == nil && b.Namespace == namespace {
			p.hear(b, time.Now())
		}
	})
	if err != nil {
		return fmt.Errorf("listen to the beacons of %s: %w", namespace, err)
	}
	context.AfterFunc(ctx, func() { _ = sub.Unsubscribe() }) // fails only on a closed connection
	return nil
}

func (p *Projector) hear(b events.Beacon, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failed != nil {
		return // nothing is followed: staleness grows
	}
	if err := p.fresh.Hear(b, p.journal.Epoch(), p.state, now); err != nil {
		p.doubt(err, b.Seq)
		return
	}
	if b.Seq > p.state.Seq {
		p.journal.Notice(b.Seq)
	}
}

// doubt logs what is new to say about a beacon. The mutex is held.
func (p *Projector) doubt(err error, seq uint64) {
	if p.said != err.Error() {
		p.said = err.Error()
		p.log.Error(err.Error()+": not believed", "namespace", p.journal.Namespace(), "seq", seq, "have", p.state.Seq)
	}
}

// Standing is the newest sequence that the journal told of, and how long ago the state was last known to be all there was,
// see events.Beacon. It asks the journal for its head if the office is silent, or a beacon speaks of more than is known.
func (p *Projector) Standing(ctx context.Context) (head uint64, stale time.Duration) {
	p.mu.Lock()
	ask := p.failed == nil && (time.Since(p.fresh.Heard) > silence || p.fresh.Hinted())
	p.mu.Unlock()
	if ask {
		ctx, cancel := context.WithTimeout(ctx, headWait)
		defer cancel()
		if _, err := p.askHead(ctx); err != nil && !errors.Is(err, context.Canceled) {
			p.log.Warn("the journal does not say where its head is", "namespace", p.journal.Namespace(), "err", err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fresh.Head, p.fresh.Stale(time.Now())
}

// Known is what Standing says, but nobody is asked.
func (p *Projector) Known() (head uint64, stale time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.fresh.Head, p.fresh.Stale(time.Now())
}

// askHead asks the journal for its head, and notes the answer.
func (p *Projector) askHead(ctx context.Context) (uint64, error) {
	head, err := p.journal.Head(ctx)
	if err != nil {
		return 0, fmt.Errorf("ask the journal of %s for its head: %w", p.journal.Namespace(), err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fresh.Told(head)
	return head, nil
}
