package events

import (
	"errors"
	"fmt"

	"github.com/unitgate/unitgate/events/routing"
)

// Event is what happened. The set is closed; each one's Go name is its type on the wire.
//
//sumtype:decl
type Event interface{ isEvent() }

// Changes is a set of configuration changes: what is put has its new value, what is removed its id.
type Changes struct {
	Policy        *Policy                   `json:"policy,omitempty"`
	UnitTypes     []UnitType                `json:"unitTypes,omitempty"` // the whole list: its order matters
	Units         []Unit                    `json:"units,omitempty"`
	Clusters      []Cluster                 `json:"clusters,omitempty"`
	LoadBalancers []LoadBalancer            `json:"loadBalancers,omitempty"`
	Drafts        []Domain                  `json:"drafts,omitempty"`
	Activated     []string                  `json:"activated,omitempty"` // hosts whose draft becomes active
	Hooks         *[]Hook                   `json:"hooks,omitempty"`     // the whole list
	Rules         map[string]*routing.Rules `json:"rules,omitempty"`     // baselines by unit type
	Removed       Removed                   `json:"removed,omitzero"`

	deactivated []string // hosts whose active version becomes a draft; DomainDeactivated says so on the wire
}

// Removed are the ids of what a change removes.
type Removed struct {
	Units         []string `json:"units,omitempty"`
	Clusters      []string `json:"clusters,omitempty"`
	LoadBalancers []string `json:"loadBalancers,omitempty"`
	Domains       []string `json:"domains,omitempty"`
}

// Events that shape a namespace.
type (
	// NamespaceCreated opens a namespace.
	NamespaceCreated struct {
		Namespace string  `json:"namespace"`
		Changes   Changes `json:"changes"`
	}
	// ConfigApplied is a whole plan, all or nothing. It opens the namespace if it is the first event.
	ConfigApplied struct {
		Namespace string      `json:"namespace"`
		Changes   Changes     `json:"changes"`
		Ended     []DomainEnd `json:"ended,omitempty"` // of the domains that it removed
	}
	// UnitPut added or replaced a unit.
	UnitPut struct{ Unit }
	// ClusterPut added or replaced a cluster.
	ClusterPut struct{ Cluster }
	// LoadBalancerPut added or replaced a load balancer.
	LoadBalancerPut struct{ LoadBalancer }
	// DomainPut added or replaced a draft.
	DomainPut struct{ Domain }
	// DomainActivated made the draft effective.
	DomainActivated struct {
		Host string `json:"host"`
	}
	// DomainDeactivated made an active version a draft again.
	DomainDeactivated struct{ DomainEnd }
	// DomainRemoved removed a domain.
	DomainRemoved struct{ DomainEnd }
	// UnitRemoved removed a unit.
	UnitRemoved struct {
		ID string `json:"id"`
	}
	// ClusterRemoved removed a cluster.
	ClusterRemoved struct {
		ID string `json:"id"`
	}
	// LoadBalancerRemoved removed a load balancer.
	LoadBalancerRemoved struct {
		ID string `json:"id"`
	}
	// RulesInitialized set the baseline of a unit type.
	RulesInitialized struct {
		UnitType string         `json:"unitType"`
		Rules    *routing.Rules `json:"rules"`
	}
)

// Events of edges and of the driver.
type (
	// EdgeJoined registered an edge, or renewed its address and capacity, or gave it those of the edge that it succeeds.
	EdgeJoined struct {
		ID        string `json:"id"`
		Directory string `json:"directory"`
		Unit      string `json:"unit"`
		Cluster   string `json:"cluster"`
		Address   string `json:"address"`
		Capacity  int    `json:"capacity,omitempty"`
		Key       string `json:"key,omitempty"`

		Succeeds          string `json:"succeeds,omitempty"`
		SucceedsDirectory string `json:"succeedsDirectory,omitempty"`
		SucceedsProof     string `json:"succeedsProof,omitempty"`
	}
	// EdgeLeft ended a membership.
	EdgeLeft struct {
		ID string `json:"id"`
	}
	// EdgeRetired declared an edge gone for good.
	EdgeRetired struct {
		ID     string `json:"id"`
		Reason string `json:"reason"`
	}
	// DriverTookOffice opened a term.
	DriverTookOffice struct {
		Term   uint64 `json:"term"`
		Holder string `json:"holder"`
		Key    string `json:"key,omitempty"`
	}
)

// Events of cutovers.
type (
	// CutoverProposed holds everything a cutover will do, and what its command was answered.
	CutoverProposed struct {
		Cutover    string              `json:"cutover"` // its id
		UnitType   string              `json:"unitType"`
		RuleFrom   uint64              `json:"ruleFrom"` // version of the rules it was made against
		RuleTo     uint64              `json:"ruleTo"`
		Rules      *routing.Rules      `json:"rules,omitempty"` // the new rules, in records of the time before there was Change
		Change     routing.Change      `json:"change,omitzero"` // what makes the new rules of those in force
		Moves      []routing.Move      `json:"moves"`
		ExactMoves []routing.ExactMove `json:"exactMoves"`           // the first routing.MaxShown
		ExactCount int                 `json:"exactCount,omitempty"` // how many move, if that is more
		Diff       string              `json:"diff"`                 // the rule texts compared
		Waves      []Share             `json:"waves"`
		Rate       Rate                `json:"rate"`
		Interval   Duration            `json:"interval,omitempty"`
		Gate       Gate                `json:"gate,omitzero"`
		Drain      string              `json:"drain,omitempty"`
		Emergency  bool                `json:"emergency,omitempty"`
		RollbackOf string              `json:"rollbackOf,omitempty"`
		Auto       bool                `json:"auto,omitempty"`
		Counted    Count               `json:"counted"`
	}
	// Share is what a wave moves. Where more than routing.ShortList exact IDs move in all waves together, it says only how
	// many of them: the next ones, in the order of routing.IDs.
	Share struct {
		Slots      []routing.Range `json:"slots,omitempty"`
		Exact      []string        `json:"exact,omitempty"`
		ExactCount int             `json:"exactCount,omitempty"`
	}
	// CutoverChecked holds what prechecks measured.
	CutoverChecked struct {
		Cutover string  `json:"cutover"`
		Checks  []Check `json:"checks"`
	}
	// CutoverSkipped lets the cutover go on without a precheck or without an edge's report.
	CutoverSkipped struct {
		Cutover string `json:"cutover"`
		Check   string `json:"check,omitempty"`
		Edge    string `json:"edge,omitempty"`
		Reason  string `json:"reason"`
	}
	// CutoverStarted hands the cutover to the driver.
	CutoverStarted struct {
		Cutover string  `json:"cutover"`
		Checks  []Check `json:"checks,omitempty"` // prechecks that were run again
	}
	// CutoverPaused unfenced the fenced wave, if any.
	CutoverPaused struct {
		Cutover string `json:"cutover"`
		Why     Why    `json:"why"`
	}
	// CutoverResumed hands the cutover back to the driver.
	CutoverResumed struct {
		Cutover string `json:"cutover"`
	}
	// CutoverAborted unfenced the fenced wave, if any, and ended the cutover. Committed waves stay.
	CutoverAborted struct {
		Cutover        string `json:"cutover"`
		Why            Why    `json:"why"`
		CommittedWaves int    `json:"committedWaves,omitempty"`
	}
	// CutoverRolledBack proposed the way back, and ended the cutover if it had waves left to move.
	CutoverRolledBack struct {
		Cutover string          `json:"cutover"`
		Why     Why             `json:"why"`
		Back    CutoverProposed `json:"back"`
	}
	// WaveFenced began the hand-over of a wave's keys: nobody admits them until it is committed or unfenced.
	WaveFenced struct {
		Cutover string `json:"cutover"`
		Wave    int    `json:"wave"`
		Term    uint64 `json:"term"`
	}
	// WaveCommitted gave the wave's keys to their new owners.
	WaveCommitted struct {
		Cutover string       `json:"cutover"`
		Wave    int          `json:"wave"`
		Term    uint64       `json:"term"`
		Edges   []EdgeResult `json:"edges"`
	}
	// WaveJudged holds what the gate measured of a commit. If that is not good enough, the cutover is paused with it.
	WaveJudged struct {
		Cutover string     `json:"cutover"`
		Wave    int        `json:"wave"`
		Term    uint64     `json:"term"`
		Result  GateResult `json:"result"`
	}
	// CutoverCompleted made the new rules the rules in force.
	CutoverCompleted struct {
		Cutover string `json:"cutover"`
		Term    uint64 `json:"term"`
	}
	// CutoverFailed ended a cutover before anything moved.
	CutoverFailed struct {
		Cutover string `json:"cutover"`
		Term    uint64 `json:"term"`
		Why     Why    `json:"why"`
	}
	// HookCalled holds what became of a hook.
	HookCalled struct {
		Cutover string     `json:"cutover"`
		Term    uint64     `json:"term"`
		Result  HookResult `json:"result"`
	}
	// CutoverReported holds what an ended cutover did to its users and to everybody else.
	CutoverReported struct {
		Cutover string        `json:"cutover"`
		Term    uint64        `json:"term"`
		Report  CutoverReport `json:"report"`
	}
)

// CommandRefused changes nothing but the head. A durable command is refused after another controller may have sent its
// event without hearing what became of it: such an append is guarded by the head as it was, so that from this record on it
// can never be stored, and the refusal stays true.
type CommandRefused struct {
	Entity string `json:"entity"` // of the command, with Verb and ID its identity
	Verb   string `json:"verb"`
	ID     string `json:"id"`
	Code   string `json:"code"` // of the refusal
}

// OwnershipEstablished said that every registered edge holds a lease (R13).
type OwnershipEstablished struct {
	Term uint64 `json:"term"`
}

func (NamespaceCreated) isEvent() {}
func (ConfigApplied) isEvent()    {}
func (UnitPut) isEvent()          {}
func (ClusterPut) isEvent()       {}
func (LoadBalancerPut) isEvent()  {}
func (DomainPut) isEvent()        {}
func (DomainActivated) isEvent()  {}
func (DomainRemoved) isEvent()    {}
func (RulesInitialized) isEvent() {}
func (EdgeJoined) isEvent()       {}
func (EdgeLeft) isEvent()         {}
func (EdgeRetired) isEvent()      {}
func (DriverTookOffice) isEvent() {}
func (CutoverProposed) isEvent()  {}
func (CutoverChecked) isEvent()   {}
func (CutoverSkipped) isEvent()   {}
func (CutoverStarted) isEvent()   {}
func (CutoverPaused) isEvent()    {}
func (CutoverResumed) isEvent()   {}
func (CutoverAborted) isEvent()   {}
func (WaveFenced) isEvent()       {}
func (WaveCommitted) isEvent()    {}
func (CutoverCompleted) isEvent() {}
func (CommandRefused) isEvent()   {}

func (CutoverRolledBack) isEvent()    {}
func (WaveJudged) isEvent()           {}
func (CutoverFailed) isEvent()        {}
func (HookCalled) isEvent()           {}
func (CutoverReported) isEvent()      {}
func (OwnershipEstablished) isEvent() {}
func (DomainDeactivated) isEvent()    {}
func (UnitRemoved) isEvent()          {}
func (ClusterRemoved) isEvent()       {}
func (LoadBalancerRemoved) isEvent()  {}

// Slots is the number of slots that the proposal moves.
func (e CutoverProposed) Slots() int { return routing.Diff{Moves: e.Moves}.Slots() }

// ExactIDs is the number of exact IDs that the proposal moves.
func (e CutoverProposed) ExactIDs() int { return max(e.ExactCount, len(e.ExactMoves)) }

// to is the rule set that the proposal leads to from the one in force; before is the one from which the cutover led that it
// rolls back, nil if there is none.
func (e CutoverProposed) to(from, before *routing.Rules) (*routing.Rules, error) {
	if e.Rules == nil {
		return from.With(e.Change, before)
	}
	if !e.Rules.Complete() {
		return nil, errors.New("its exact IDs are missing")
	}
	return e.Rules, nil
}

// SlotCount is the number of slots in a share.
func (s Share) SlotCount() int { return routing.Keys{Slots: s.Slots}.SlotCount() }

// ExactIDs is the number of exact IDs in a share.
func (s Share) ExactIDs() int { return len(s.Exact) + s.ExactCount }

// shares are waves as an event holds them.
func shares(waves []routing.Keys, exact int) []Share {
	out := make([]Share, len(waves))
	for i, k := range waves {
		out[i].Slots = k.Slots
		if exact > routing.ShortList {
			out[i].ExactCount = k.Exact.Len()
		} else {
			out[i].Exact = k.Exact.Strings()
		}
	}
	return out
}

// waves undoes shares; d is what moves.
func waves(shares []Share, d routing.Diff) ([]routing.Keys, error) {
	out := make([]routing.Keys, len(shares))
	next := 0
	for i, s := range shares {
		ids, err := routing.NewIDs(s.Exact)
		if err != nil {
			return nil, fmt.Errorf("wave %d: %w", i, err)
		}
		if s.ExactCount < 0 || s.ExactCount > d.Exact.Len()-next || s.ExactCount > 0 && len(s.Exact) > 0 {
			return nil, fmt.Errorf("wave %d: %w: %d further exact IDs of %d", i, routing.ErrWaves, s.ExactCount, d.Exact.Len()-next)
		}
		if s.ExactCount > 0 {
			ids = d.Exact.Slice(next, next+s.ExactCount)
			next += s.ExactCount
		}
		out[i] = routing.Keys{Slots: s.Slots, Exact: ids}
	}
	return out, nil
}
