//go:build !linux

package cutover

import "time"

var started = time.Now()

// bootClock is Go's clock where there is none that goes on in suspend: do not suspend a machine that drives.
func bootClock() time.Duration { return time.Since(started) }
