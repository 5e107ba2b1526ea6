package harness

import (
	"math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"
)

// pollEvery is short against everything the tests wait for.
const pollEvery = 10 * time.Millisecond

// Poll polls until done, and says whether that came within the time. It rests at least as long
// as it looks, so that looking (a whole process each, for some) does not starve what it looks at.
func Poll(within time.Duration, done func() bool) bool {
	deadline := time.Now().Add(within)
	for {
		began := time.Now()
		if done() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(max(pollEvery, time.Since(began)))
	}
}

// Eventually polls until done, and fails the test with what was awaited once within is over.
func Eventually(t testing.TB, within time.Duration, what string, done func() bool) {
	t.Helper()
	if !Poll(within, done) {
		t.Fatalf("not within %v: %s", within, what)
	}
}

// FreePort returns a loopback port that nobody listened on a moment ago. It lies below the
// range from which the kernel takes the ports of outgoing connections, so that none of those
// can occupy it between two lives of a server.
func FreePort(t testing.TB) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no free port between 20000 and 32000")
	return 0
}
