package journal_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

func TestMemorySnapshots(t *testing.T) {
	journaltest.RunSnapshots(t, func(*testing.T) journal.Snapshots { return journal.NewMemorySnapshots() })
}

func TestKVSnapshots(t *testing.T) {
	journaltest.RunSnapshots(t, func(t *testing.T) journal.Snapshots {
		s, _ := newSnapshots(t)
		return s
	})
}

func newSnapshots(t *testing.T) (*journal.KVSnapshots, jetstream.KeyValue) {
	t.Helper()
	js := journaltest.StartServer(t).JetStream()
	if _, err := journal.OpenSnapshots(t.Context(), js); !errors.Is(err, journal.ErrNoSnapshots) {
		t.Fatalf("open without a bucket: %v", err)
	}
	if _, err := journal.CreateSnapshots(t.Context(), js, journal.Options{}); err != nil {
		t.Fatal(err)
	}
	s, err := journal.CreateSnapshots(t.Context(), js, journal.Options{}) // twice is fine
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), journal.SnapshotBucket)
	if err != nil {
		t.Fatal(err)
	}
	return s, kv
}

// numbered makes a state of three chunks that differs everywhere from that of another number: a torn one would show.
func numbered(n uint64) []byte {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], n)
	b := make([]byte, 1200<<10)
	_, _ = rand.NewChaCha8(seed).Read(b) // never fails
	return b
}

// TestSnapshotsAreNeverTorn: readers and writers at once; every read is one writer's whole state, and never an older one
// than the reader has seen.
func TestSnapshotsAreNeverTorn(t *testing.T) {
	s, kv := newSnapshots(t)
	const writers, each = 3, 8
	if err := s.Put(t.Context(), "shop", journaltest.At("a", 1), numbered(1)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var writing, reading sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for i := range each {
				n := uint64(2 + i*writers + w)
				if err := s.Put(t.Context(), "shop", journaltest.At("a", n), numbered(n)); err != nil {
					t.Errorf("put %d: %v", n, err)
				}
			}
		})
	}
	for range 2 {
		reading.Go(func() {
			for seen := uint64(0); ctx.Err() == nil; {
				at, state, ok, err := s.Latest(t.Context(), "shop")
				if err != nil || !ok || at.Seq < seen || !bytes.Equal(state, numbered(at.Seq)) {
					t.Errorf("read %d after %d: %v, %v", at.Seq, seen, ok, err)
					return
				}
				seen = at.Seq
			}
		})
	}
	writing.Wait()
	cancel()
	reading.Wait()
	if at, _, _, err := s.Latest(t.Context(), "shop"); err != nil || at.Seq != 1+writers*each {
		t.Errorf("latest is %d, %v; want %d", at.Seq, err, 1+writers*each)
	}
	if err := s.Put(t.Context(), "shop", journaltest.At("a", 1000), numbered(1)); err != nil {
		t.Fatal(err)
	}
	if n := len(keys(t, kv, "shop.chunk.>")); n != 3 {
		t.Errorf("%d chunks are left of all, want 3", n)
	}
}

func keys(t *testing.T, kv jetstream.KeyValue, filter string) (found []string) {
	t.Helper()
	l, err := kv.ListKeysFiltered(t.Context(), filter)
	if err != nil {
		t.Fatal(err)
	}
	for key := range l.Keys() {
		found = append(found, key)
	}
	return found
}

// TestSnapshotLeftovers: chunks of a writer that died before its manifest go with the next snapshot; other namespaces' stay.
func TestSnapshotLeftovers(t *testing.T) {
	s, kv := newSnapshots(t)
	for _, ns := range []string{"shop", "shop2"} {
		if err := s.Put(t.Context(), ns, journaltest.At("a", 1), []byte(ns)); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"shop.chunk.dead.0", "shop.chunk.dead.1"} {
		if _, err := kv.Put(t.Context(), key, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Put(t.Context(), "shop", journaltest.At("a", 2), []byte("two")); err != nil {
		t.Fatal(err)
	}
	if got := keys(t, kv, "shop.>"); len(got) != 2 {
		t.Errorf("keys are %v, want a manifest and a chunk", got)
	}
	if at, state, _, err := s.Latest(t.Context(), "shop2"); err != nil || at.Seq != 1 || string(state) != "shop2" {
		t.Errorf("the other namespace: %v, %q, %v", at, state, err)
	}
}

// TestSnapshotDamage: whatever is wrong is ErrBadSnapshot, and the next Put repairs it.
func TestSnapshotDamage(t *testing.T) {
	chunk := func(t *testing.T, kv jetstream.KeyValue) string { return keys(t, kv, "shop.chunk.>")[0] }
	change := func(old, new string) func(*testing.T, jetstream.KeyValue) {
		return func(t *testing.T, kv jetstream.KeyValue) {
			e, err := kv.Get(t.Context(), "shop.manifest")
			if err != nil || !strings.Contains(string(e.Value()), old) {
				t.Fatalf("manifest %s, %v: no %s", e.Value(), err, old)
			}
			put(t, kv, "shop.manifest", strings.Replace(string(e.Value()), old, new, 1))
		}
	}
	for name, damage := range map[string]func(*testing.T, jetstream.KeyValue){
		"manifest is no JSON":    func(t *testing.T, kv jetstream.KeyValue) { put(t, kv, "shop.manifest", "<html>") },
		"manifest is empty JSON": func(t *testing.T, kv jetstream.KeyValue) { put(t, kv, "shop.manifest", "{}") },
		"newer format":           change(`"format":1`, `"format":2`),
		"other namespace":        change(`"namespace":"shop"`, `"namespace":"mall"`),
		"no hash":                change(strings.Repeat("c", 64), ""),
		"absurd chunks":          change(`"chunks":1`, `"chunks":99999999`),
		"more chunks":            change(`"chunks":1`, `"chunks":2`),
		"smaller size":           change(`"size":5`, `"size":4`),
		"larger size":            change(`"size":5`, `"size":6`),
		"hostile id":             change(`"id":"`, `"id":">`),
		"chunk is foreign":       func(t *testing.T, kv jetstream.KeyValue) { put(t, kv, chunk(t, kv), "not gzip") },
		"chunk is cut": func(t *testing.T, kv jetstream.KeyValue) {
			e, err := kv.Get(t.Context(), chunk(t, kv))
			if err != nil {
				t.Fatal(err)
			}
			put(t, kv, chunk(t, kv), string(e.Value()[:len(e.Value())-9]))
		},
		"chunk is gone": func(t *testing.T, kv jetstream.KeyValue) {
			if err := kv.Delete(t.Context(), chunk(t, kv)); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, kv := newSnapshots(t)
			if err := s.Put(t.Context(), "shop", journaltest.At("a", 1), []byte("state")); err != nil {
				t.Fatal(err)
			}
			damage(t, kv)
			if at, _, ok, err := s.Latest(t.Context(), "shop"); ok || !errors.Is(err, journal.ErrBadSnapshot) {
				t.Fatalf("latest of a damaged snapshot: %+v, %v, %v", at, ok, err)
			}
			if err := s.Put(t.Context(), "shop", journaltest.At("a", 2), []byte("anew")); err != nil {
				t.Fatal(err)
			}
			if _, state, ok, err := s.Latest(t.Context(), "shop"); err != nil || !ok || string(state) != "anew" {
				t.Fatalf("after a new snapshot: %q, %v, %v", state, ok, err)
			}
		})
	}
}

func put(t *testing.T, kv jetstream.KeyValue, key, value string) {
	t.Helper()
	if _, err := kv.PutString(t.Context(), key, value); err != nil {
		t.Fatal(err)
	}
}

// TestSnapshotManifestDeleted: an operator deleted the key by hand; that is no snapshot, and a new one can be written.
func TestSnapshotManifestDeleted(t *testing.T) {
	s, kv := newSnapshots(t)
	for n := uint64(1); n <= 2; n++ {
		if err := s.Put(t.Context(), "shop", journaltest.At("a", 1), []byte("state")); err != nil {
			t.Fatal(err)
		}
		if _, _, ok, err := s.Latest(t.Context(), "shop"); err != nil || !ok {
			t.Fatalf("round %d: %v, %v", n, ok, err)
		}
		if err := kv.Delete(t.Context(), "shop.manifest"); err != nil {
			t.Fatal(err)
		}
		if _, _, ok, err := s.Latest(t.Context(), "shop"); err != nil || ok {
			t.Fatalf("round %d, deleted: %v, %v", n, ok, err)
		}
	}
}

// TestSnapshotMessageSize: no stored piece exceeds the size that our messages keep to.
func TestSnapshotMessageSize(t *testing.T) {
	s, kv := newSnapshots(t)
	state := make([]byte, 3<<20)
	for i := range state { // hardly compressible
		state[i] = byte(i * i >> 3 * 7)
	}
	if err := s.Put(t.Context(), "shop", journaltest.At("a", 1), state); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys(t, kv, "shop.>") {
		if e, err := kv.Get(t.Context(), key); err != nil || len(e.Value()) >= 512<<10 {
			t.Errorf("%s: %d bytes, %v", key, len(e.Value()), err)
		}
	}
}
