package journal

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
)

// What an account that demands a bound of every stream (max_bytes_required) is told, in bytes. Such an account
// counts bounds, not what is stored.
const (
	journalBytes  = 256 << 20
	snapshotBytes = 64 << 20
)

// Codes of the JetStream API (errors.json of nats-server) for which package jetstream has no names.
const (
	codeNoPeers          = 10005 // no suitable peers for placement
	codeNoResources      = 10023
	codeNoStorage        = 10047
	codeSubjectsOverlap  = 10065
	codeNotClustered     = 10074 // replicas > 1 not supported in non-clustered mode
	codeStoreFailed      = 10077 // maximum bytes exceeded, no space left on device
	codeMaxBytesRequired = 10113
	codeMaxStreamBytes   = 10122
)

// codeOf is the code of an error of the JetStream API, 0 for any other error.
func codeOf(err error) jetstream.ErrorCode {
	if api, ok := errors.AsType[*jetstream.APIError](err); ok {
		return api.ErrorCode
	}
	return 0
}

// Bounded makes a stream without a bound of its bytes, or with one where the account demands that.
func Bounded(bytes int64, create func(maxBytes int64) error) error {
	err := create(0)
	if codeOf(err) == codeMaxBytesRequired {
		err = create(bytes)
	}
	return err
}

// tooFewServers reports whether a stream could not be made because there are fewer servers than replicas.
func tooFewServers(err error) bool {
	code := codeOf(err)
	return code == codeNoPeers || code == codeNotClustered
}

// explain says of an error of making a stream what an operator can do about it.
func explain(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig, err error) error {
	switch codeOf(err) {
	case codeSubjectsOverlap:
		for _, subject := range cfg.Subjects {
			var holders []string
			for name := range js.StreamNames(ctx, jetstream.WithStreamListSubject(subject)).Name() {
				holders = append(holders, name)
			}
			if len(holders) > 0 {
				return fmt.Errorf("stream %s already stores %s: take these subjects from it, or give unitgate a NATS account of its own: %w", strings.Join(holders, ", "), subject, err)
			}
		}
		return fmt.Errorf("another stream already stores some of %s: find it with `nats stream ls --all --subject`, or give unitgate a NATS account of its own: %w", strings.Join(cfg.Subjects, ", "), err)
	case codeNoPeers, codeNotClustered:
		return fmt.Errorf("%d replicas want as many servers with JetStream: say --journal-replicas, or add servers: %w", cfg.Replicas, err)
	case codeNoStorage, codeNoResources, codeMaxStreamBytes:
		return fmt.Errorf("the account has no room for %d MiB: raise its limits, or say a smaller --journal-max-bytes: %w", cfg.MaxBytes>>20, err)
	}
	return err
}
