package cutover

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// quietFor is from when on an edge that is granted nothing counts as falling silent: it has missed two turns.
const quietFor = 2*events.LeaseEvery + time.Second

// Leases is what the driver in office knows of the leases of a namespace. Nobody else does: silence is measured by its
// clock and since its taking office (R5).
type Leases struct {
	// Silence is, by id, in how many seconds edges that are granted nothing are silent; 0: they are.
	Silence map[string]float64 `json:"silence"`
	// Unleased are the registered edges that have to get a lease before exclusive ownership counts and anything moves (R13).
	Unleased []string `json:"unleased"`
}

// leases is for the owner of the driver to show.
func (d *Driver) leases() Leases {
	l := Leases{Silence: map[string]float64{}}
	if !d.Serving() || d.state.Policy.Ownership != "exclusive" {
		return l
	}
	if !d.exclusive() {
		l.Unleased = d.Unleased()
		return l
	}
	whole := time.Duration(d.state.Exclusive.Lease) + d.cfg.LeaseMargin
	for id, left := range d.Silence() {
		if d.state.Edges[id].Awaited || left <= whole-quietFor {
			l.Silence[id] = max(left, 0).Round(100 * time.Millisecond).Seconds()
		}
	}
	return l
}

func leasesSubject(namespace string) string { return "unitgate.office." + namespace + ".leases" }

// tellLeases answers other controllers' questions about leases while this one is in office.
func (m *Manager) tellLeases() (*nats.Subscription, error) {
	sub, err := m.cfg.NC.Subscribe(leasesSubject(m.cfg.Namespace), func(msg *nats.Msg) {
		if !m.Leading() {
			return
		}
		m.mu.Lock()
		l := m.leases
		m.mu.Unlock()
		if b, err := json.Marshal(l); err == nil {
			_ = msg.Respond(b) // who asked asks again
		}
	})
	if err != nil {
		return nil, fmt.Errorf("listen to questions about the leases of %s: %w", m.cfg.Namespace, err)
	}
	return sub, nil
}

// Leases are those of the driver in office, which another controller may hold: then it is asked. Without an answer
// nothing is known.
func (m *Manager) Leases(ctx context.Context) Leases {
	if m.Leading() {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.leases
	}
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	var l Leases
	if msg, err := m.cfg.NC.RequestWithContext(ctx, leasesSubject(m.cfg.Namespace), nil); err == nil && json.Unmarshal(msg.Data, &l) != nil {
		l = Leases{}
	}
	return l
}

// SilenceView is an edge that a fenced wave waits for and that is granted no lease: when it is silent the wave needs
// nothing more of it (R5).
type SilenceView struct {
	Edge string  `json:"edge"`
	Left float64 `json:"left"` // seconds
}

// wait adds to a view what its fenced waves wait for under exclusive ownership.
func (v *View) wait(l Leases) {
	if v.State == events.Started {
		v.Unleased = l.Unleased
	}
	for i := range v.Waves {
		w := &v.Waves[i]
		if len(w.WaitingFor) == 0 {
			continue
		}
		for _, id := range slices.Sorted(maps.Keys(l.Silence)) {
			at := slices.Index(w.WaitingFor, id)
			switch left := l.Silence[id]; {
			case at < 0:
			case left > 0:
				w.Silence = append(w.Silence, SilenceView{id, left})
			default:
				w.WaitingFor = slices.Delete(w.WaitingFor, at, at+1)
			}
		}
		if len(w.WaitingFor) == 0 {
			w.State = events.DrainedWave
		}
	}
}
