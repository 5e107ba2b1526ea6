package deadman

import (
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Now is the time since the machine was booted, the time that it was suspended included: CLOCK_BOOTTIME. It allocates
// nothing and is cheap enough for every wake-up of a poller.
func Now() time.Duration {
	var ts unix.Timespec
	// Raw: the kernel never waits here, so the scheduler need not know. The call cannot fail with these arguments, and
	// there would be no time to go on with.
	if _, _, errno := unix.RawSyscall(unix.SYS_CLOCK_GETTIME, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic("clock_gettime(CLOCK_BOOTTIME): " + errno.Error())
	}
	return time.Duration(ts.Nano())
}

// Timer is the kernel's timer of this process. It belongs to nobody in particular: its methods may be called at the
// same time, and what is set last counts.
type Timer struct {
	mu     sync.Mutex
	id     int32
	closed bool // the kernel may have given id to another timer
}

// New makes a timer that is not armed. It fails with ErrInit where it could not end the process.
func New() (*Timer, error) {
	if os.Getpid() == 1 {
		return nil, ErrInit
	}
	return create()
}

func create() (*Timer, error) {
	t := &Timer{}
	event := sigevent{signo: int32(unix.SIGKILL), notify: sigevSignal}
	_, _, errno := unix.RawSyscall(unix.SYS_TIMER_CREATE, unix.CLOCK_BOOTTIME, uintptr(unsafe.Pointer(&event)), uintptr(unsafe.Pointer(&t.id)))
	if errno == unix.EAGAIN {
		return nil, fmt.Errorf("timer_create: %w: no room for one more pending signal, see ulimit -i", errno)
	}
	if errno != 0 {
		return nil, os.NewSyscallError("timer_create", errno)
	}
	return t, nil
}

// Arm has the process end at a moment of Now's clock; one that was set before no longer counts. A moment that has passed
// ends the process at once.
func (t *Timer) Arm(at time.Duration) error {
	return t.set(max(at, 1)) // zero would disarm, and be a lease without an end
}

// Disarm lets the process live.
func (t *Timer) Disarm() error { return t.set(0) }

// Close disarms the timer and gives it back to the kernel. Arm and Disarm fail from then on.
func (t *Timer) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil
	}
	t.closed = true
	if _, _, errno := unix.RawSyscall(unix.SYS_TIMER_DELETE, uintptr(t.id), 0, 0); errno != 0 {
		return os.NewSyscallError("timer_delete", errno)
	}
	return nil
}

func (t *Timer) set(at time.Duration) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return os.ErrClosed
	}
	spec := itimerspec{value: unix.NsecToTimespec(int64(at))}
	_, _, errno := unix.RawSyscall6(unix.SYS_TIMER_SETTIME, uintptr(t.id), timerAbstime, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		return os.NewSyscallError("timer_settime", errno)
	}
	return nil
}

// What the kernel's headers call SIGEV_SIGNAL (to the whole process) and TIMER_ABSTIME.
const (
	sigevSignal  = 0
	timerAbstime = 1
)

// sigevent is the kernel's struct of that name: 64 bytes everywhere (SIGEV_MAX_SIZE).
type sigevent struct {
	value  uintptr
	signo  int32
	notify int32
	_      [64 - unsafe.Sizeof(uintptr(0)) - 2*unsafe.Sizeof(int32(0))]byte
}

// itimerspec is the kernel's: without an interval the timer fires once.
type itimerspec struct {
	interval, value unix.Timespec
}
