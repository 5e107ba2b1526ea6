//go:build !linux

package deadman

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// started is what Now counts from where the time since boot is not to be had.
var started = time.Now()

// Now is the time since the program started, by Go's monotonic clock.
func Now() time.Duration { return time.Since(started) }

// Timer exists on Linux only.
type Timer struct{}

// New always fails here.
func New() (*Timer, error) { return nil, unsupported() }

// Arm always fails here.
func (*Timer) Arm(time.Duration) error { return unsupported() }

// Disarm has nothing to do.
func (*Timer) Disarm() error { return nil }

// Close has nothing to do.
func (*Timer) Close() error { return nil }

func unsupported() error {
	return fmt.Errorf("a timer that ends a stopped process: %w on %s, only on Linux", errors.ErrUnsupported, runtime.GOOS)
}
