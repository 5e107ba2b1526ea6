// Package reader folds a namespace's journal once, up to its head, for whoever has no control plane at hand.
package reader

import (
	"context"
	"errors"
	"log/slog"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/projector"
)

// State is the namespace's state at the journal's head, from the newest snapshot on. The errors are
// events.ErrUnknownNamespace and command.ErrUnavailable.
func State(ctx context.Context, js jetstream.JetStream, namespace string, log *slog.Logger) (*events.State, error) {
	j, err := journal.Open(ctx, js, namespace)
	if errors.Is(err, journal.ErrNoJournal) {
		return nil, events.ErrUnknownNamespace.With("there is no namespace %q", namespace)
	}
	if err != nil {
		return nil, Unavailable(err)
	}
	p := projector.New(j, snapshots(ctx, js), false, log)
	following, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = p.Run(following) // CatchUp tells why it stopped
	}()
	s, err := p.CatchUp(ctx)
	stop()
	<-done
	if err != nil {
		return nil, Unavailable(err)
	}
	if s.Namespace == "" {
		return nil, events.ErrUnknownNamespace.With("namespace %q has a journal, but nothing stands in it yet", namespace)
	}
	return s, nil
}

// snapshots is the store of snapshots, nil if there is none: it only saves time.
func snapshots(ctx context.Context, js jetstream.JetStream) projector.SnapshotStore {
	s, err := journal.OpenSnapshots(ctx, js)
	if err != nil {
		return nil
	}
	return s
}

// Unavailable is a failure of the way to the journal.
func Unavailable(err error) error {
	for _, none := range []error{jetstream.ErrJetStreamNotEnabled, jetstream.ErrJetStreamNotEnabledForAccount, nats.ErrNoResponders} {
		if errors.Is(err, none) {
			return command.ErrUnavailable.With("this NATS server has no JetStream, where the journal lives: %v", err)
		}
	}
	return command.ErrUnavailable.With("the journal cannot be read: %v", err)
}
