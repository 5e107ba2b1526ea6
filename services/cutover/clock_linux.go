package cutover

import (
	"time"

	"golang.org/x/sys/unix"
)

// bootClock is CLOCK_BOOTTIME: it goes on while the machine is suspended, Go's monotonic clock does not, and a driver
// that wakes up must know that its term is over (R1).
func bootClock() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic("clock_gettime(CLOCK_BOOTTIME): " + err.Error()) // there is no driving without a clock
	}
	return time.Duration(ts.Nano())
}
