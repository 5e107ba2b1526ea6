package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// SnapshotBucket is the name of the KV bucket. Keys: <namespace>.manifest and <namespace>.chunk.<id>.<number>.
const SnapshotBucket = "UNITGATE_SNAPSHOTS"

// snapshotTries bounds how often Put and Latest begin again because another writer came in between.
const snapshotTries = 5

// KVSnapshots are snapshots in a JetStream KV bucket.
type KVSnapshots struct {
	SnapshotReader
	kv jetstream.KeyValue
}

var _ Snapshots = (*KVSnapshots)(nil)

// CreateSnapshots makes the bucket, or opens the one that is there.
func CreateSnapshots(ctx context.Context, js jetstream.JetStream, opts Options) (*KVSnapshots, error) {
	s, err := OpenSnapshots(ctx, js)
	if !errors.Is(err, ErrNoSnapshots) {
		return s, err
	}
	rctx, cancel := context.WithTimeout(ctx, 4*requestTimeout)
	defer cancel()
	cfg := jetstream.KeyValueConfig{
		Bucket: SnapshotBucket, Description: "unitgate: newest snapshot of each namespace",
		History: 1, Storage: jetstream.FileStorage, Replicas: max(opts.Replicas, 1),
	}
	create := func(maxBytes int64) error {
		cfg.MaxBytes = maxBytes
		_, err := js.CreateKeyValue(rctx, cfg)
		return err
	}
	err = Bounded(snapshotBytes, create)
	if opts.Fewer && tooFewServers(err) {
		cfg.Replicas = 1
		err = Bounded(snapshotBytes, create)
	}
	if err != nil && !errors.Is(err, jetstream.ErrBucketExists) {
		err = explain(rctx, js, jetstream.StreamConfig{Subjects: []string{"$KV." + SnapshotBucket + ".>"}, Replicas: cfg.Replicas, MaxBytes: cfg.MaxBytes}, err)
		return nil, fmt.Errorf("create bucket %s: %w", SnapshotBucket, err)
	}
	return OpenSnapshots(ctx, js)
}

// Replicas are how many copies the bucket has.
func (s *KVSnapshots) Replicas(ctx context.Context) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	status, err := s.kv.Status(ctx)
	if err != nil {
		return 0, fmt.Errorf("look at bucket %s: %w", SnapshotBucket, err)
	}
	return status.Config().Replicas, nil
}

// OpenSnapshots opens the bucket; ErrNoSnapshots when there is none.
func OpenSnapshots(ctx context.Context, js jetstream.JetStream) (*KVSnapshots, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	kv, err := js.KeyValue(ctx, SnapshotBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil, ErrNoSnapshots
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", SnapshotBucket, err)
	}
	return &KVSnapshots{SnapshotReader{js}, kv}, nil
}

func manifestKey(ns string) string { return ns + ".manifest" }

func chunkKey(ns, id string, n int) string { return fmt.Sprintf("%s.chunk.%s.%d", ns, id, n) }

// Put implements [Snapshots].
func (s *KVSnapshots) Put(ctx context.Context, ns string, at Cursor, state []byte) error {
	if err := checkSnapshot(ns, at, state); err != nil {
		return err
	}
	packed, err := compress(state)
	if err != nil {
		return fmt.Errorf("compress snapshot of %q: %w", ns, err)
	}
	m := manifest{Format: manifestFormat, Namespace: ns, Cursor: at, Size: len(state), Sum: sum(state)}
	for range snapshotTries {
		done, err := s.try(ctx, m, packed)
		if err != nil {
			return fmt.Errorf("put snapshot of %q at %d: %w", ns, at.Seq, err)
		}
		if done {
			return nil
		}
	}
	return fmt.Errorf("put snapshot of %q at %d: other writers came first %d times", ns, at.Seq, snapshotTries)
}

// try writes one snapshot, chunks first, manifest last. It is not done when another writer's manifest came in between.
func (s *KVSnapshots) try(ctx context.Context, m manifest, packed []byte) (done bool, err error) {
	rctx, cancel := context.WithTimeout(ctx, requestTimeout)
	old, revision, err := s.manifest(rctx, m.Namespace)
	cancel()
	if err != nil && !errors.Is(err, ErrBadSnapshot) { // a bad one is replaced
		return false, err
	}
	if err == nil && old != nil && !old.superseded(m.Cursor) {
		return true, nil
	}
	m.ID = uuid.NewString() // keys of its own: nobody ever writes over a chunk that another manifest may name
	if m.Chunks, err = s.putChunks(ctx, m, packed); err != nil {
		return false, err
	}
	data, err := json.Marshal(m)
	if err != nil {
		return false, err
	}
	rctx, cancel = context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var written uint64
	if revision == 0 {
		written, err = s.kv.Create(rctx, manifestKey(m.Namespace), data)
	} else {
		written, err = s.kv.Update(rctx, manifestKey(m.Namespace), data, revision)
	}
	if errors.Is(err, jetstream.ErrKeyExists) || isConflict(err) {
		return false, s.drop(ctx, m.Namespace, m.ID)
	}
	if err != nil {
		return false, err
	}
	return true, s.sweep(ctx, m, written)
}

func isConflict(err error) bool {
	var api *jetstream.APIError
	return errors.As(err, &api) && (api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence ||
		api.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant)
}

func (s *KVSnapshots) putChunks(ctx context.Context, m manifest, packed []byte) (n int, err error) {
	for ; len(packed) > 0; n++ {
		piece := packed[:min(len(packed), snapshotChunk)]
		packed = packed[len(piece):]
		rctx, cancel := context.WithTimeout(ctx, requestTimeout)
		_, err := s.kv.Put(rctx, chunkKey(m.Namespace, m.ID, n), piece)
		cancel()
		if err != nil {
			return n, fmt.Errorf("chunk %d: %w", n, err)
		}
	}
	return n, nil
}

// sweep deletes the chunks that no manifest names any more, those of writers that died or lost included. A chunk older than
// the manifest just written is either in it or of a writer that read the manifest before, whose update must now fail: so
// deleting it takes nothing from anyone but readers under way, who begin again.
func (s *KVSnapshots) sweep(ctx context.Context, m manifest, written uint64) error {
	rctx, cancel := context.WithTimeout(ctx, 4*requestTimeout)
	defer cancel()
	w, err := s.kv.Watch(rctx, m.Namespace+".chunk.>", jetstream.IgnoreDeletes(), jetstream.MetaOnly())
	if err != nil {
		return fmt.Errorf("sweep old chunks: %w", err)
	}
	stale := map[string]bool{}
	for e := range w.Updates() {
		if e == nil {
			break // all that is there has been seen
		}
		id, _, _ := strings.Cut(strings.TrimPrefix(e.Key(), m.Namespace+".chunk."), ".")
		if id != m.ID && e.Revision() < written {
			stale[id] = true
		}
	}
	if err := w.Stop(); err != nil && !errors.Is(err, nats.ErrBadSubscription) { // that one: it has ended by itself
		return fmt.Errorf("sweep old chunks: %w", err)
	}
	for id := range stale {
		if err := s.drop(ctx, m.Namespace, id); err != nil {
			return err
		}
	}
	return nil
}

// drop deletes the chunks of one writing. It purges them from the bucket's stream, because deleting keys would leave a
// marker each, for ever, under names that never come back.
func (s *KVSnapshots) drop(ctx context.Context, ns, id string) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	st, err := s.js.Stream(ctx, "KV_"+SnapshotBucket)
	if err == nil {
		err = st.Purge(ctx, jetstream.WithPurgeSubject("$KV."+SnapshotBucket+"."+ns+".chunk."+id+".>"))
	}
	if err != nil {
		return fmt.Errorf("delete old chunks: %w", err)
	}
	return nil
}
