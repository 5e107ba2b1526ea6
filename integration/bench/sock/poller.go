//go:build linux

// Package sock is what the load generator and the origin stand on: non-blocking TCP sockets, epoll and the monotonic
// clock, by bare system calls. The runtime is not told about them (RawSyscall): a goroutine of its own thread then
// behaves as a C program does, and costs the two cores that all parts of a comparison share as little as one.
//
// A Poller and its sockets belong to one goroutine.
package sock

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Readiness, as epoll(7) has it. Both are level-triggered.
const (
	In  = unix.EPOLLIN
	Out = unix.EPOLLOUT
)

// Event says that a descriptor is ready.
type Event = unix.EpollEvent

// Poller waits for many descriptors at once.
type Poller struct {
	fd     int
	events []Event
}

// NewPoller makes a Poller. It holds one descriptor until the process ends.
func NewPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	// A thread's timers may fire 50 µs late by default, which is the distance of two messages at 20,000 a second.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("prctl PR_SET_TIMERSLACK: %w", err)
	}
	return &Poller{fd: fd, events: make([]Event, 512)}, nil
}

// Add watches a descriptor until it is closed. Events carry it in Fd.
func (p *Poller) Add(fd int, events uint32) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &Event{Events: events, Fd: int32(fd)})
}

// Change replaces what is watched for.
func (p *Poller) Change(fd int, events uint32) error {
	return unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &Event{Events: events, Fd: int32(fd)})
}

// Wait returns what is ready, at the latest after d. The slice is good until the next Wait.
func (p *Poller) Wait(d time.Duration) ([]Event, error) {
	at := unix.NsecToTimespec(int64(max(d, 0)))
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)),
		uintptr(unsafe.Pointer(&at)), 0, 0)
	switch errno {
	case 0:
		return p.events[:n], nil
	case unix.EINTR: // the runtime's preemption signals
		return nil, nil
	default:
		return nil, fmt.Errorf("epoll_pwait2 (Linux 5.11 or newer): %w", errno)
	}
}

// Clock reads CLOCK_MONOTONIC, which all processes of a machine share.
type Clock struct {
	base  time.Time
	nanos int64 // at base
}

// NewClock makes a Clock.
func NewClock() (Clock, error) {
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &at); err != nil {
		return Clock{}, fmt.Errorf("clock_gettime: %w", err)
	}
	return Clock{time.Now(), at.Nano()}, nil
}

// Now is the time in nanoseconds, without a system call.
func (c Clock) Now() int64 { return c.nanos + int64(time.Since(c.base)) }
