package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// SnapshotReader reads the snapshots of the KV bucket, each key by the one call of JetStream's API that names it in its
// subject. So a NATS user can be allowed the keys of one namespace, and nothing else of the API.
type SnapshotReader struct{ js jetstream.JetStream }

// ReadSnapshots returns a reader. Whether there is a bucket shows with Latest.
func ReadSnapshots(js jetstream.JetStream) SnapshotReader { return SnapshotReader{js} }

// Latest implements [Snapshots]; ErrNoSnapshots when there is no bucket.
func (s SnapshotReader) Latest(ctx context.Context, ns string) (Cursor, []byte, bool, error) {
	if err := checkNamespace(ns); err != nil {
		return Cursor{}, nil, false, err
	}
	var last uint64
	for range snapshotTries {
		m, revision, err := s.manifestBounded(ctx, ns)
		if err != nil || m == nil {
			return Cursor{}, nil, false, err
		}
		state, err := s.load(ctx, m)
		if err == nil {
			return m.Cursor, state, true, nil
		}
		if !errors.Is(err, jetstream.ErrKeyNotFound) {
			return Cursor{}, nil, false, fmt.Errorf("load snapshot of %q at %d: %w", ns, m.Seq, err)
		}
		// A chunk is gone: replaced by a newer snapshot while we read, unless the manifest still is the same one.
		if revision == last {
			return Cursor{}, nil, false, fmt.Errorf("%w: of %q at %d: %w", ErrBadSnapshot, ns, m.Seq, err)
		}
		last = revision
	}
	return Cursor{}, nil, false, fmt.Errorf("latest snapshot of %q: replaced %d times while it was read", ns, snapshotTries)
}

func (s SnapshotReader) manifestBounded(ctx context.Context, ns string) (*manifest, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, revision, err := s.manifest(ctx, ns)
	if err != nil {
		err = fmt.Errorf("latest snapshot: %w", err)
	}
	return m, revision, err
}

// manifest returns the manifest and its revision; nil and 0 when there is none.
func (s SnapshotReader) manifest(ctx context.Context, ns string) (*manifest, uint64, error) {
	value, revision, err := s.get(ctx, manifestKey(ns))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, err
	}
	m, err := parseManifest(ns, value)
	return m, revision, err
}

func (s SnapshotReader) load(ctx context.Context, m *manifest) ([]byte, error) {
	var packed []byte
	for n := range m.Chunks {
		rctx, cancel := context.WithTimeout(ctx, requestTimeout)
		piece, _, err := s.get(rctx, chunkKey(m.Namespace, m.ID, n))
		cancel()
		if err != nil {
			return nil, fmt.Errorf("chunk %d of %d: %w", n, m.Chunks, err)
		}
		packed = append(packed, piece...)
	}
	return expand(m, packed)
}

// get is a key's value and revision; jetstream.ErrKeyNotFound if it is not there or was deleted.
func (s SnapshotReader) get(ctx context.Context, key string) (value []byte, revision uint64, err error) {
	m, err := s.js.Conn().RequestWithContext(ctx, apiPrefix(s.js)+"DIRECT.GET.KV_"+SnapshotBucket+".$KV."+SnapshotBucket+"."+key, nil)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, 0, ErrNoSnapshots
	case err != nil:
		return nil, 0, err
	case m.Header.Get("Status") == "404" || m.Header.Get("KV-Operation") != "":
		return nil, 0, jetstream.ErrKeyNotFound
	case m.Header.Get("Status") != "":
		return nil, 0, fmt.Errorf("key %s: %s %s", key, m.Header.Get("Status"), m.Header.Get("Description"))
	}
	if revision, err = strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64); err != nil {
		return nil, 0, fmt.Errorf("key %s: header %s: %w", key, jetstream.SequenceHeader, err)
	}
	return m.Data, revision, nil
}
