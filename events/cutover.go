package events

import (
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// CutoverState is where a cutover stands:
//
//	proposed ──check──▶ checked ──start──▶ started ──last wave committed──▶ completed
//	    │                  │               │    ▲                               │
//	    │                  │             pause resume                 a rollback of it completed
//	    │                  │               ▼    │                               ▼
//	    │                  │              paused ──rollback (after a commit)──▶ rolledback
//	    └──────abort───────┴────abort───────┘ ─────────────────────────────────▶ aborted
//	                                   started ──a pre hook said no──▶ failed
//
// Whatever ends a cutover early, committed waves stay where they are: the rules in force are then the Standing ones. A
// rollback is a cutover of its own, in the other direction.
type CutoverState string

// The states of a cutover.
const (
	Proposed  CutoverState = "proposed"
	Checked   CutoverState = "checked"
	Started   CutoverState = "started"
	Paused    CutoverState = "paused"
	Completed CutoverState = "completed"
	Aborted   CutoverState = "aborted"
	// RolledBack ended by a rollback: at once when waves were left to move, else when the way back was completed.
	RolledBack CutoverState = "rolledback"
	Failed     CutoverState = "failed" // before anything moved
)

// CutoverStates are all of them.
func CutoverStates() []CutoverState {
	return []CutoverState{Proposed, Checked, Started, Paused, Completed, Aborted, RolledBack, Failed}
}

// Ended reports whether it moves nothing any more.
func (s CutoverState) Ended() bool {
	return s == Completed || s == Aborted || s == RolledBack || s == Failed
}

// Running reports whether the cutover holds its unit type's single place: its waves may be fenced or committed.
func (s CutoverState) Running() bool { return s == Started || s == Paused }

// Cutover is one hand-over of keys between units. Values in a State are never changed in place.
type Cutover struct {
	ID          string          `json:"id"`
	Number      uint64          `json:"number"` // counts a namespace's cutovers from 1
	State       CutoverState    `json:"state"`
	UnitType    string          `json:"unitType"`
	RuleFrom    uint64          `json:"ruleFrom"` // rule version it was made against
	RuleTo      uint64          `json:"ruleTo"`   // rule version once completed
	From        *routing.Rules  `json:"from"`     // rules before
	To          *routing.Rules  `json:"to"`       // rules after
	Waves       []Wave          `json:"waves"`    // at least one; committed ones come first, at most one is fenced
	Rate        Rate            `json:"rate"`
	Interval    Duration        `json:"interval,omitempty"`   // least time between a commit and the next fence
	Gate        Gate            `json:"gate,omitzero"`        // looked at after every commit
	Drain       string          `json:"drain,omitempty"`      // unit that it empties
	Emergency   bool            `json:"emergency,omitempty"`  // what cannot answer is done without: see StartCutover and SkipCheck
	Reason      string          `json:"reason,omitempty"`     // of the proposal
	RollbackOf  string          `json:"rollbackOf,omitempty"` // the cutover whose keys it moves back
	Auto        bool            `json:"auto,omitempty"`       // the driver proposed it and starts it
	Counted     Count           `json:"counted"`
	Checks      []Check         `json:"checks,omitempty"`      // in the order of CheckIDs
	Skips       map[string]Skip `json:"skips,omitempty"`       // skipped prechecks by id, for the whole cutover
	Hooks       []Hook          `json:"hooks,omitempty"`       // that the namespace had when the cutover was started
	Results     []HookResult    `json:"hookResults,omitempty"` // of them, in the order in which they ended
	Why         *Why            `json:"why,omitempty"`         // of the last pause, or of an early end
	Report      *CutoverReport  `json:"report,omitempty"`      // once it has ended and its users had time to come back
	Actor       string          `json:"actor"`
	Traceparent string          `json:"traceparent,omitempty"` // of the proposal: the root of the cutover's trace
	ProposedAt  time.Time       `json:"proposedAt"`
	StartedAt   time.Time       `json:"startedAt,omitzero"`
	EndedAt     time.Time       `json:"endedAt,omitzero"`
}

// Wave is one step of a cutover.
type Wave struct {
	routing.Keys
	State     WaveState       `json:"state"`
	FenceSeq  uint64          `json:"fenceSeq,omitempty"`  // sequence of the newest WaveFenced; reports name it (R6)
	FencedAt  time.Time       `json:"fencedAt,omitzero"`   // for people; no deadline hangs on it
	SkipEdges map[string]Skip `json:"skipEdges,omitempty"` // reports that this fence does without; valid while fenced
	Results   []EdgeResult    `json:"results,omitempty"`   // valid once committed
	Gate      *GateResult     `json:"gate,omitempty"`      // once a set gate has judged the commit
}

// WaveState is where a wave stands. That it is drained is known from reports, not from the journal.
type WaveState string

// The states of a wave.
const (
	PendingWave   WaveState = "pending"
	FencedWave    WaveState = "fenced"
	DrainedWave   WaveState = "drained" // only shown, never stored
	CommittedWave WaveState = "committed"
)

// Phase is what routing needs to know of the state.
func (s WaveState) Phase() routing.Phase {
	switch s {
	case FencedWave:
		return routing.Fenced
	case CommittedWave:
		return routing.Committed
	default:
		return routing.Pending
	}
}

// Why says why something stopped.
type Why struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Skip is an operator's word to go on without something.
type Skip struct {
	Actor  string    `json:"actor"`
	Reason string    `json:"reason"`
	At     time.Time `json:"at"`
}

// EdgeResult is what one needed edge reported for a fence when its wave was committed.
type EdgeResult struct {
	ID      string `json:"id"`
	Unit    string `json:"unit"`
	Applied uint64 `json:"applied"`         // sequence it had applied and stored
	Fence   uint64 `json:"fence,omitempty"` // sequence of the fence that its report names (R6)
	Drained bool   `json:"drained"`         // no session and no dial of the fenced keys was left
	Evicted int    `json:"evicted"`
	Skipped bool   `json:"skipped,omitempty"` // an operator did without its report; under available only
	Silent  bool   `json:"silent,omitempty"`  // the driver granted it nothing for longer than its lease can last (R5); under exclusive only
}

// Check is the verdict of one precheck.
type Check struct {
	ID       string     `json:"id"`
	State    CheckState `json:"state"`
	Message  string     `json:"message"`
	Measured string     `json:"measured"` // what was measured: "4 of 4 edges"
	// Threshold is what was wanted: "4 of 4 edges", "at most 90 %".
	Threshold string    `json:"threshold,omitempty"`
	At        time.Time `json:"at"`
}

// CheckState is pass, fail, warn or skipped.
type CheckState string

// The verdicts of a precheck.
const (
	Pass    CheckState = "pass"
	Fail    CheckState = "fail"
	Warn    CheckState = "warn"
	Skipped CheckState = "skipped"
)

// CheckIDs are the prechecks in the order in which they are run and shown.
func CheckIDs() []string {
	return []string{
		"rules-complete", "no-open-cutover", "edges-at-head", "journal-quorum",
		"target-capacity", "target-origins", "target-handshake", "subdomains",
	}
}

// MaxCheckAge is how old a precheck may be when the cutover starts.
const MaxCheckAge = 60 * time.Second
