package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// List returns the namespaces that have a journal, sorted by name. Streams of other kinds are passed over.
func List(ctx context.Context, js jetstream.JetStream) ([]Listed, error) {
	ctx, cancel := context.WithTimeout(ctx, 4*requestTimeout)
	defer cancel()
	var found []Listed
	l := js.ListStreams(ctx, jetstream.WithStreamListSubject(eventSubjects+">"))
	for info := range l.Info() {
		if ns, ok := strings.CutPrefix(info.Config.Name, streamPrefix); ok && checkConfig(ns, info.Config) == nil {
			found = append(found, Listed{ns, info.Config.Metadata[metadataEpoch], info.State.LastSeq})
		}
	}
	if err := l.Err(); err != nil {
		return nil, fmt.Errorf("list journals: %w", err)
	}
	slices.SortFunc(found, func(a, b Listed) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(found, func(a, b Listed) bool { return a.Name == b.Name }), nil
}

// ListAsking is List for a reader that asks the control plane, and looks itself only where none answers.
func ListAsking(ctx context.Context, js jetstream.JetStream) ([]Listed, error) {
	s := Stream{js: js, asker: &asker{nc: js.Conn(), subject: ListSubject}}
	var found []Listed
	if done, err := s.asking(ctx, func() error {
		answer, err := s.asker.ask(ctx, Question{})
		found = answer.Listed
		return err
	}); done {
		if err != nil {
			err = fmt.Errorf("list journals: %w", err)
		}
		return found, err
	}
	found, err := List(ctx, js)
	if errors.Is(err, context.DeadlineExceeded) {
		err = s.barred(err)
	}
	return found, err
}
