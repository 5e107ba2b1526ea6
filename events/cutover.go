package events

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// CutoverState is where a cutover stands:
//
//	proposed ──check──▶ checked ──start──▶ started ──last wave committed──▶ completed
//	    │                  │               │    ▲
//	    │                  │             pause resume
//	    │                  │               ▼    │
//	    └──────abort───────┴────abort──── paused        (abort: only before the first commit) ──▶ aborted
type CutoverState string

// The states of a cutover.
const (
	Proposed  CutoverState = "proposed"
	Checked   CutoverState = "checked"
	Started   CutoverState = "started"
	Paused    CutoverState = "paused"
	Completed CutoverState = "completed"
	Aborted   CutoverState = "aborted"
)

// Ended reports whether nothing can happen any more.
func (s CutoverState) Ended() bool { return s == Completed || s == Aborted }

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
	Counted     Count           `json:"counted"`
	Checks      []Check         `json:"checks,omitempty"` // in the order of CheckIDs
	Skips       map[string]Skip `json:"skips,omitempty"`  // skipped prechecks by id, for the whole cutover
	Why         *Why            `json:"why,omitempty"`    // of the last pause or abort
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
	Applied uint64 `json:"applied"` // sequence it had applied and stored
	Drained bool   `json:"drained"` // no session and no dial of the fenced keys was left
	Evicted int    `json:"evicted"`
	Skipped bool   `json:"skipped,omitempty"` // an operator did without its report
}

// Check is the verdict of one precheck.
type Check struct {
	ID       string     `json:"id"`
	State    CheckState `json:"state"`
	Message  string     `json:"message"`
	Measured string     `json:"measured"` // what was measured: "4 of 4 edges"
	At       time.Time  `json:"at"`
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
	return []string{"rules-complete", "no-open-cutover", "edges-at-head", "journal-quorum", "target-origins"}
}

// MaxCheckAge is how old a precheck may be when the cutover starts.
const MaxCheckAge = 60 * time.Second

// Rate is evictions a second and edge; 0 stands for no limit, whose JSON form is "max".
type Rate int

// MaxRate bounds a rate.
const MaxRate = 1_000_000

// String is the number, or "max".
func (r Rate) String() string {
	if r == 0 {
		return "max"
	}
	return strconv.Itoa(int(r))
}

// ParseRate reads "max" or a number from 1 to MaxRate.
func ParseRate(s string) (Rate, error) {
	if s == "max" {
		return 0, nil
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > MaxRate {
		return 0, fmt.Errorf("rate %q: want max or a number from 1 to %d", s, MaxRate)
	}
	return Rate(n), nil
}

// MarshalJSON writes the number or "max".
func (r Rate) MarshalJSON() ([]byte, error) {
	if r == 0 {
		return []byte(`"max"`), nil
	}
	return json.Marshal(int(r))
}

// UnmarshalJSON reads what MarshalJSON writes.
func (r *Rate) UnmarshalJSON(b []byte) (err error) {
	s := string(b)
	if s == `"max"` {
		s = "max"
	}
	*r, err = ParseRate(s)
	return err
}
