package journal

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
)

// Snapshots keep the newest snapshot of each namespace's state. A snapshot saves replaying the events up to its cursor; it
// is never needed: a reader that gets an error from Latest replays from the start. Safe for concurrent use by any number
// of writers and readers.
type Snapshots interface {
	// Put stores the state as of the cursor. It does nothing when a snapshot of the same epoch is there that is as new or
	// newer. Among epochs the last writer wins: a reader compares the epoch with its journal's.
	Put(ctx context.Context, ns string, at Cursor, state []byte) error

	// Latest returns the newest snapshot and whether there is one. [ErrBadSnapshot]: there is something that is none.
	Latest(ctx context.Context, ns string) (Cursor, []byte, bool, error)
}

// LatestSnapshot is what a reader needs of Snapshots.
type LatestSnapshot interface {
	Latest(ctx context.Context, ns string) (Cursor, []byte, bool, error)
}

var (
	// ErrBadSnapshot: what is stored as a snapshot is damaged, incomplete or foreign. Replay from the start.
	ErrBadSnapshot = errors.New("snapshot is damaged or foreign: replay the journal from the start")
	// ErrNoSnapshots: the bucket of the snapshots does not exist.
	ErrNoSnapshots = errors.New("no snapshot bucket: no control plane has made one yet")
)

const (
	// snapshotChunk is the size of a stored piece, in bytes: under the 512 KiB that messages of ours keep to, with room for headers.
	snapshotChunk = 500 << 10

	// maxState bounds a state, in bytes, so that a damaged manifest can not make a reader allocate without end.
	maxState = 1 << 30

	manifestFormat = 1
)

// manifest names the chunks of one snapshot. It is written after them, in one message, so whoever reads it finds all.
type manifest struct {
	Format    int    `json:"format"`
	Namespace string `json:"namespace"`
	Cursor
	ID     string `json:"id"`     // of this writing; the chunks' keys hold it
	Chunks int    `json:"chunks"` // how many, at least 1
	Size   int    `json:"size"`   // of the state, in bytes
	Sum    string `json:"sum"`    // hex SHA-256 of the state
}

// superseded tells whether a snapshot at the cursor should replace this one.
func (m *manifest) superseded(at Cursor) bool { return m.Epoch != at.Epoch || m.Seq < at.Seq }

func parseManifest(ns string, data []byte) (*manifest, error) {
	var m manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%w: manifest of %q: %w", ErrBadSnapshot, ns, err)
	}
	if m.Format != manifestFormat || m.Namespace != ns || m.Seq == 0 || m.check() != nil || !isToken(m.ID) ||
		m.Chunks < 1 || m.Chunks > maxState/snapshotChunk || m.Size < 0 || m.Size > maxState || !isHash(m.Sum) {
		return nil, fmt.Errorf("%w: manifest of %q: %.300s", ErrBadSnapshot, ns, data)
	}
	return &m, nil
}

// checkSnapshot refuses what could not be read again.
func checkSnapshot(ns string, at Cursor, state []byte) error {
	if err := checkNamespace(ns); err != nil {
		return err
	}
	if at.Seq == 0 || at.Epoch == "" || !isHash(at.Hash) {
		return fmt.Errorf("%w: snapshot at %+v: a full cursor is needed", ErrInvalid, at)
	}
	if len(state) > maxState {
		return fmt.Errorf("%w: state of %d bytes, at most %d are allowed", ErrTooLarge, len(state), maxState)
	}
	return nil
}

func sum(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

func compress(state []byte) ([]byte, error) {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	if _, err := w.Write(state); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// expand undoes compress and checks the result against its manifest.
func expand(m *manifest, packed []byte) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	}
	state, err := io.ReadAll(io.LimitReader(r, int64(m.Size)+1)) // no more than said, whatever the data expands to
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadSnapshot, err)
	}
	if len(state) != m.Size || sum(state) != m.Sum {
		return nil, fmt.Errorf("%w: state of %q at %d does not match its checksum", ErrBadSnapshot, m.Namespace, m.Seq)
	}
	return state, nil
}

// MemorySnapshots are snapshots in memory, for tests and simulation.
type MemorySnapshots struct {
	mu   sync.Mutex // guards kept
	kept map[string]memorySnapshot
}

type memorySnapshot struct {
	at    Cursor
	state []byte
}

var _ Snapshots = (*MemorySnapshots)(nil)

// NewMemorySnapshots returns an empty store.
func NewMemorySnapshots() *MemorySnapshots {
	return &MemorySnapshots{kept: map[string]memorySnapshot{}}
}

// Put implements [Snapshots].
func (s *MemorySnapshots) Put(ctx context.Context, ns string, at Cursor, state []byte) error {
	if err := checkSnapshot(ns, at, state); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.kept[ns]; !ok || old.at.Epoch != at.Epoch || old.at.Seq < at.Seq {
		s.kept[ns] = memorySnapshot{at, bytes.Clone(state)}
	}
	return ctx.Err()
}

// Latest implements [Snapshots].
func (s *MemorySnapshots) Latest(ctx context.Context, ns string) (Cursor, []byte, bool, error) {
	if err := checkNamespace(ns); err != nil {
		return Cursor{}, nil, false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept, ok := s.kept[ns]
	return kept.at, bytes.Clone(kept.state), ok, ctx.Err()
}
