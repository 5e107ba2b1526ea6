package journaltest

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events/journal"
)

// At returns a cursor as good as any, for tests of snapshots.
func At(epoch string, seq uint64) journal.Cursor {
	return journal.Cursor{Epoch: epoch, Seq: seq, Hash: strings.Repeat("c", 64)}
}

// RunSnapshots checks one kind of snapshot store. factory makes an empty one.
func RunSnapshots(t *testing.T, factory func(t *testing.T) journal.Snapshots) {
	t.Run("newest wins", func(t *testing.T) {
		s := factory(t)
		wantSnapshot(t, s, "shop", journal.Cursor{}, nil)
		for _, step := range []struct {
			put, want journal.Cursor
			state     string
			wantState string
		}{
			{At("a", 5), At("a", 5), "five", "five"},
			{At("a", 9), At("a", 9), "nine", "nine"},
			{At("a", 7), At("a", 9), "seven", "nine"},
			{At("a", 9), At("a", 9), "nine again", "nine"},
			{At("b", 2), At("b", 2), "", ""},
		} {
			if err := s.Put(t.Context(), "shop", step.put, []byte(step.state)); err != nil {
				t.Fatal(err)
			}
			wantSnapshot(t, s, "shop", step.want, []byte(step.wantState))
		}
		wantSnapshot(t, s, "other", journal.Cursor{}, nil)
	})
	t.Run("large state", func(t *testing.T) {
		s := factory(t)
		for seq, state := range map[uint64][]byte{1: noise(3 << 20), 2: bytes.Repeat([]byte("rule "), 1<<20)} {
			if err := s.Put(t.Context(), "shop", At("a", seq), state); err != nil {
				t.Fatal(err)
			}
		}
		_, state, _, err := s.Latest(t.Context(), "shop")
		if err != nil || len(state) != 5<<20 {
			t.Fatalf("%d bytes, %v", len(state), err)
		}
		big := noise(3<<20 + 7)
		if err := s.Put(t.Context(), "shop", At("a", 3), big); err != nil {
			t.Fatal(err)
		}
		wantSnapshot(t, s, "shop", At("a", 3), big)
	})
	t.Run("refused", func(t *testing.T) {
		s := factory(t)
		wantErr(t, s.Put(t.Context(), "Shop", At("a", 1), nil), journal.ErrInvalid)
		wantErr(t, s.Put(t.Context(), "shop", journal.Cursor{}, nil), journal.ErrInvalid)
		wantErr(t, s.Put(t.Context(), "shop", At("", 1), nil), journal.ErrInvalid)
		_, _, _, err := s.Latest(t.Context(), "a.b")
		wantErr(t, err, journal.ErrInvalid)
		wantSnapshot(t, s, "shop", journal.Cursor{}, nil)
	})
}

func wantSnapshot(t *testing.T, s journal.Snapshots, ns string, want journal.Cursor, state []byte) {
	t.Helper()
	at, got, ok, err := s.Latest(t.Context(), ns)
	if err != nil || at != want || ok != (want.Seq > 0) || !bytes.Equal(got, state) {
		t.Fatalf("latest is %+v with %d bytes, %v, %v; want %+v with %d bytes", at, len(got), ok, err, want, len(state))
	}
}

// noise is data that does not compress, the same at every call.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}
