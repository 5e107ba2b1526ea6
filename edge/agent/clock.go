package agent

import "time"

// Deadman ends this process at a moment on CLOCK_BOOTTIME, whatever state it is in, unless it is set anew or disarmed
// before (R12): deadman.Timer is one. Its methods may be called concurrently.
type Deadman interface {
	Arm(at time.Duration) error
	Disarm() error
}

// NoDeadman stands for a timer that could not be made, and why: an edge serves nobody under exclusive ownership then.
func NoDeadman(why error) Deadman { return noDeadman{why} }

type noDeadman struct{ why error }

func (d noDeadman) Arm(time.Duration) error { return d.why }
func (d noDeadman) Disarm() error           { return nil }

// The machine's times are those of a boot clock, counted from the Unix epoch. They are no dates.

func fromBoot(d time.Duration) time.Time { return time.Unix(0, 0).Add(d) }

func sinceBoot(t time.Time) time.Duration { return t.Sub(time.Unix(0, 0)) }
