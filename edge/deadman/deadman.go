// Package deadman ends this process at a moment that it set itself, also while it stands still: a kernel timer sends
// SIGKILL, so that neither SIGSTOP, a debugger nor a starved scheduler lets the process serve beyond the end of its lease
// (rule R12: no two units serve one routerId, whatever happens to a process between two of its instructions).
//
// Moments are read from CLOCK_BOOTTIME, which goes on while the machine is suspended; Go's monotonic clock does not.
// Nothing is handed on to other programs: a child has no timer, and execve deletes this one.
//
// The kernel ignores SIGKILL for PID 1 of a pid namespace, where a container's program usually is. New refuses that
// place (ErrInit); `unitgate edge` moves out of it by running itself as a child.
//
// The timer works on Linux; elsewhere the package builds, and New fails with errors.ErrUnsupported.
package deadman

import "errors"

// ErrInit says that the process is PID 1 of its pid namespace, which cannot be killed from inside.
var ErrInit = errors.New("the kernel ignores SIGKILL for PID 1 of a pid namespace: run the program as a child of PID 1 (docker run --init, or shareProcessNamespace in a pod)")
