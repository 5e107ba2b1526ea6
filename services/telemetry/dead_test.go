package telemetry_test

import (
	"io"
	"net"
	"runtime"
	"sync"
	"testing"

	"github.com/unitgate/unitgate/services/telemetry"
)

// blackHole is the URL of a collector that takes connections and never says a word.
func blackHole(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			all.Go(func() { _, _ = io.Copy(io.Discard, c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return "http://" + l.Addr().String()
}

// TestDeadCollectorCostsNoMemory makes a hundred times as many spans as the queue holds.
func TestDeadCollectorCostsNoMemory(t *testing.T) {
	clean(t)
	tel := start(t, telemetry.Config{Service: telemetry.Edge, OTLP: blackHole(t)})
	tracer := tel.TracerProvider().Tracer("test")
	emit := func(n int) {
		for range n {
			_, span := tracer.Start(t.Context(), "edge.handshake")
			span.End()
		}
	}
	emit(10_000) // the queue is full
	before := heap()
	emit(200_000)
	if after := heap(); after > before+4<<20 {
		t.Errorf("heap grew from %d to %d KiB over 200,000 spans that nobody takes", before>>10, after>>10)
	}
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
