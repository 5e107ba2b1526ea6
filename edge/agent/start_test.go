package agent

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// million is the environment variable that lets the longest history in, which takes a minute to make.
const million = "UNITGATE_BENCH_MILLION"

// bulk is a journal with many events on an embedded server.
type bulk struct {
	srv   *journaltest.Server
	state *events.State
}

func newBulk(t testing.TB, n int) *bulk {
	t.Helper()
	b := &bulk{srv: journaltest.StartServer(t), state: events.NewState()}
	js := b.srv.JetStream()
	if _, err := journal.Create(t.Context(), js, "demo", journal.Options{}); err != nil {
		t.Fatal(err)
	}
	journaltest.Bulk(t, js, "demo", b.state, n)
	return b
}

// snapshot stores a snapshot of the state.
func (b *bulk) snapshot(t testing.TB) {
	t.Helper()
	js := b.srv.JetStream()
	j, err := journal.Open(t.Context(), js, "demo")
	if err != nil {
		t.Fatal(err)
	}
	snaps, err := journal.CreateSnapshots(t.Context(), js, journal.Options{})
	if err == nil {
		err = snaps.Put(t.Context(), "demo", journal.Cursor{Epoch: j.Epoch(), Seq: b.state.Seq, Hash: b.state.Chain}, b.state.Encode())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// start is how long a new edge takes until every poller decides by the head's state.
func (b *bulk) start(t testing.TB, path string) time.Duration {
	t.Helper()
	dir, err := OpenStateDir(path, "")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	relay := newFakeRelay()
	began := time.Now()
	r, err := Start(Config{
		Namespace: "demo", Unit: "u1", Cluster: "c", Advertise: "127.0.0.1:1", Dir: dir, Relay: relay,
		NATS: NATS{Options: []nats.Option{nats.InProcessServer(b.srv)}}, Logger: discard(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go func() { ended <- r.Run(ctx) }()
	v := <-relay.installs
	took := time.Since(began)
	stop()
	if err := <-ended; err != nil || v.Seq != b.state.Seq {
		t.Fatalf("ready at %d of %d: %v", v.Seq, b.state.Seq, err)
	}
	return took
}

// A snapshot makes the start independent of the history. The times are printed and not judged: machines differ.
func TestStartBehindSnapshot(t *testing.T) {
	n := 50_000
	if os.Getenv(million) != "" {
		n = 1_000_000
	}
	if testing.Short() {
		n = 1000
	}
	began := time.Now()
	b := newBulk(t, n)
	t.Logf("%d events written in %v", n, time.Since(began).Round(time.Millisecond))
	t.Logf("ready without a snapshot after %v", b.start(t, t.TempDir()).Round(time.Millisecond))
	b.snapshot(t)
	for range 3 {
		t.Logf("ready with a snapshot after %v", b.start(t, t.TempDir()).Round(100*time.Microsecond))
	}
}

// BenchmarkStart is from the start of a new edge until it decides by the head's state, by the length of the history.
func BenchmarkStart(b *testing.B) {
	lengths := []int{1_000, 10_000, 100_000}
	if os.Getenv(million) != "" {
		lengths = append(lengths, 1_000_000)
	}
	for _, n := range lengths {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			h := newBulk(b, n)
			run := func(b *testing.B) {
				best := time.Duration(1 << 62)
				for b.Loop() {
					best = min(best, h.start(b, b.TempDir()))
				}
				b.ReportMetric(float64(best.Microseconds())/1000, "ms(best)")
			}
			b.Run("replay", run)
			h.snapshot(b)
			b.Run("snapshot", run)
		})
	}
}

// What cannot be connected to is not told with its password.
func TestStartTellsNoPassword(t *testing.T) {
	for url, opt := range map[string]nats.Option{
		"nats://user:geheim@127.0.0.1:bad": nats.Name("x"), "nats://geheim@127.0.0.1:4222": nats.RootCAs("/nowhere"), "nats://user:gehe/im@h": nats.Name("x"),
	} {
		_, err := Start(Config{Namespace: "shop", Unit: "unbj", Dir: openDir(t, t.TempDir(), "bj-1"), NATS: NATS{URL: url, Options: []nats.Option{opt}}, Logger: discard()})
		if err == nil || strings.Contains(err.Error(), "gehe") || strings.Contains(err.Error(), url) {
			t.Errorf("%s: %v", url, err)
		}
	}
}
