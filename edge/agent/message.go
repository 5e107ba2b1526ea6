package agent

import (
	"time"

	"github.com/unitgate/unitgate/events"
)

// Self is who the edge is. It does not change while the process lives.
type Self struct {
	Namespace   string
	Unit        string
	Cluster     string
	ID          string
	Directory   string // UUID of the state directory: the identity that an id belongs to (R7)
	Incarnation string // UUID of the process; a restarted edge has another (R6)
	Version     string // of the binary
}

// Counts are what the relay counts of one unit type. Sessions, Victims and Held are as they stand, Evicted and Landed
// have been counting since the process started.
type Counts struct {
	Sessions int // live sessions
	Victims  int // sessions, dials and origin legs on keys that the view does not serve here, not completely gone yet
	Evicted  int // sessions closed because their key is not served here any more
	Landed   int // sessions admitted on keys that the cutover of the view's table has moved here
	Held     int // handshakes that wait for the commit of a fence

	events.Counters // since the process started

	Proxied events.Proxied // clients passed on to other units' edges, in none of the above but Victims and Held
}

// Input is what an Agent reacts to. The set is closed; every input says when it came, on a clock that goes on while the
// machine is suspended (CLOCK_BOOTTIME) and never back. Only differences of these times mean anything.
//
//sumtype:decl
type Input interface{ when() time.Time }

type (
	// Restored says that the state directory held this state, so that it is on disk already. Only as the first input.
	Restored struct {
		Now   time.Time
		Epoch string
		State *events.State
		Hash  string // State.Hash
	}
	// Advanced says that the journal has led to a newer state. Every state may be skipped but the newest.
	Advanced struct {
		Now   time.Time
		Epoch string        // of the journal
		State *events.State // immutable
	}
	// Installed says that every poller decides by this state's view, and that the sessions it does not serve are victims.
	Installed struct {
		Now   time.Time
		Epoch string
		Seq   uint64
	}
	// Stored says that this state is on disk, through fsync.
	Stored struct {
		Now   time.Time
		Epoch string
		Seq   uint64
		Hash  string // State.Hash
	}
	// Failed says that the last Install or Store did not work; it will be wanted again after a while.
	Failed struct {
		Now    time.Time
		Output Output // the Install or Store
	}
	// Counted is what the relay counts, by unit type. The counting began when the state of Epoch and Seq was installed.
	Counted struct {
		Now    time.Time
		Epoch  string
		Seq    uint64
		Counts map[string]Counts
	}
	// Answered is an answer to an Ask as it came in, also late, doubled or to another process.
	Answered struct {
		Now    time.Time
		Answer events.LeaseAnswer
		Signer string // Ed25519 public key, in hex, whose signature the owner has verified; "": there was none
	}
	// Lapsed says that a Lapse is done: no leg is left, and nothing is being dialled.
	Lapsed struct{ Now time.Time }
	// Lost says that a Hold did not come about: the pollers had let go already, or the kernel took no timer.
	Lost struct{ Now time.Time }
	// Connected says that the bus can be reached again; whoever listens there may have missed reports.
	Connected struct{ Now time.Time }
	// Tick says that time has passed.
	Tick struct{ Now time.Time }
)

func (in Restored) when() time.Time  { return in.Now }
func (in Advanced) when() time.Time  { return in.Now }
func (in Installed) when() time.Time { return in.Now }
func (in Stored) when() time.Time    { return in.Now }
func (in Failed) when() time.Time    { return in.Now }
func (in Counted) when() time.Time   { return in.Now }
func (in Answered) when() time.Time  { return in.Now }
func (in Lapsed) when() time.Time    { return in.Now }
func (in Lost) when() time.Time      { return in.Now }
func (in Connected) when() time.Time { return in.Now }
func (in Tick) when() time.Time      { return in.Now }

// Output is what an Agent wants done. The set is closed. At most one Install and one Store are under way at a time; each
// is answered by Installed, Stored or Failed.
//
//sumtype:decl
type Output interface{ isOutput() }

type (
	// Install asks to make every poller decide by this state. Answered by Installed or Failed.
	Install struct {
		Epoch string
		State *events.State
	}
	// Store asks to write this state to disk, through fsync. Answered by Stored or Failed.
	Store struct {
		Epoch string
		State *events.State
	}
	// Evict asks to close the victims of a unit type at this rate.
	Evict struct {
		UnitType string
		Rate     events.Rate // sessions a second, 0 for no limit
	}
	// Report asks to publish this.
	Report struct{ events.EdgeReport }
	// Ask asks to send this to the driver in office. Answered by Answered, or not at all.
	Ask struct{ events.LeaseRequest }
	// CatchUp asks to look for what the journal holds up to this sequence: a lease hangs on it (R4).
	CatchUp struct {
		Epoch string
		Seq   uint64
	}
	// Hold lets the pollers serve until a moment and no longer, and has the kernel end the process at the lease's end if
	// it does not come to a Lapse before (R12): the timer comes first. Answered by Lost if that does not come about.
	Hold struct{ Until, End time.Time }
	// Lapse forbids to serve, at once, and asks to reset every leg and to drop every dial (R3). Answered by Lapsed; the
	// kernel's timer stands until then.
	Lapse struct{}
	// Free lets the pollers serve without a lease: ownership is available.
	Free struct{}
)

func (Install) isOutput() {}
func (Store) isOutput()   {}
func (Evict) isOutput()   {}
func (Report) isOutput()  {}
func (Ask) isOutput()     {}
func (CatchUp) isOutput() {}
func (Hold) isOutput()    {}
func (Lapse) isOutput()   {}
func (Free) isOutput()    {}
