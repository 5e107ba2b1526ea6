package projector

import (
	"context"
	"encoding/json"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// Voucher says what the beacon vouches with: cutover.Manager is one.
type Voucher interface {
	// Vouched is the moment before the newest write of this process was sent that a quorum has acknowledged, as long as
	// the process is in office, and a channel that is closed when there is a newer one.
	Vouched() (at time.Time, inOffice bool, newer <-chan struct{})

	// Sign signs a beacon with the key that the journal holds of this process's office.
	Sign(b events.Beacon) events.Beacon
}

const (
	// beaconAsk bounds the question for the head. The next beacon asks anew.
	beaconAsk = 2 * time.Second

	// beaconGap is the least time between two beacons: each goes to every edge, and a burst of events needs one at its end.
	beaconGap = 50 * time.Millisecond
)

// Beacon publishes events.Beacon while the voucher is in office, until ctx ends. Only the process in office speaks: it sees
// every event, whichever controller appended it, a moment after it was stored, and more voices would say the same.
// A beacon is lost where there is no connection, like all core messages; what is queued up would be old.
func (p *Projector) Beacon(ctx context.Context, nc *nats.Conn, v Voucher) {
	b := &beacon{p: p, nc: nc, voucher: v, subject: events.BeaconSubject(p.journal.Namespace())}
	for ctx.Err() == nil {
		at, inOffice, newer := v.Vouched()
		changed := p.Changed()
		if p.Err() != nil {
			return // a state that does not follow the journal must not vouch for it
		}
		if inOffice {
			b.speak(ctx, at)
			sleep(ctx, beaconGap)
		}
		select {
		case <-ctx.Done():
		case <-newer:
		case <-changed:
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// beacon is one process's voice. The goroutine of Projector.Beacon owns it.
type beacon struct {
	p       *Projector
	nc      *nats.Conn
	voucher Voucher
	subject string

	renewed time.Time // the newest write that a quorum acknowledged
	proven  time.Time // what the beacon may vouch with: renewed, once the head was asked for after it
}

// speak sends one beacon. With a new proof, it first asks for the head and waits until the state has come there.
func (b *beacon) speak(ctx context.Context, vouched time.Time) {
	if vouched.After(b.renewed) {
		b.renewed = vouched
		ctx, cancel := context.WithTimeout(ctx, beaconAsk)
		_, err := b.p.CatchUp(ctx)
		cancel()
		if err == nil {
			b.proven = vouched
		}
	}
	if b.proven.IsZero() || !b.nc.IsConnected() {
		return
	}
	s, now := b.p.State(), time.Now()
	m, err := json.Marshal(b.voucher.Sign(events.Beacon{
		Namespace: b.p.journal.Namespace(), Epoch: b.p.journal.Epoch(), Seq: s.Seq, Hash: s.Chain, Time: now.UTC(),
		Age: events.Duration(now.Sub(b.proven)),
	}))
	if err == nil {
		err = b.nc.Publish(b.subject, m)
	}
	if err != nil {
		b.p.log.Warn("beacon not sent", "namespace", b.p.journal.Namespace(), "err", err)
	}
}
