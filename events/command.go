package events

import (
	"cmp"

	"github.com/unitgate/unitgate/events/routing"
)

// Command is what someone wants. The set is closed: see the catalogue in catalogue.go.
//
//sumtype:decl
type Command interface{ isCommand() }

// Envelope is a command with its circumstances.
type Envelope struct {
	ID          string // UUID; with the command's entity and verb it is the identity under which it takes effect once
	Actor       string // who gives it, as they say
	Reason      string // why; a reason in the command's own data comes first
	Traceparent string // W3C trace context, may be empty
	Command     Command

	// Signer is the Ed25519 public key, in hex, whose signature the command came with, as the
	// receiver has verified it; "" without one. Edges sign what they say of themselves.
	Signer string
	// Signatures is what the operator demands of edges.
	Signatures Signatures
}

// why is the reason, wherever the caller wrote it.
func (e Envelope) why() string { return cmp.Or(reasonOf(e.Command), e.Reason) }

// Commands that shape a namespace. Each one's data is the config file's object.
type (
	// CreateNamespace opens a namespace; the first command of a journal is this or ApplyConfig.
	CreateNamespace struct {
		Policy    *PolicyPatch `json:"policy,omitempty"`
		UnitTypes []UnitType   `json:"unitTypes,omitempty"`
	}
	// ApplyConfig changes a namespace to what Config says: one event, all or nothing.
	ApplyConfig struct {
		Base   uint64 `json:"base"`             // State.ConfigVersion that the plan was made against
		Config Config `json:"config"`           // absent parts are left alone
		Prune  bool   `json:"prune,omitempty"`  // remove what Config does not name, part by part
		Drafts bool   `json:"drafts,omitempty"` // leave changed domains as drafts

		Force   bool             `json:"force,omitempty"`  // remove domains although sessions of them live, as RemoveDomain does
		Reason  string           `json:"reason,omitempty"` // required with Force, here or in the envelope
		Counted []DomainSessions `json:"-"`                // of the domains that go; measured by the control plane
	}
	// PutUnit adds or replaces a unit.
	PutUnit struct{ Unit }
	// PutCluster adds or replaces a cluster.
	PutCluster struct{ Cluster }
	// PutLoadBalancer adds or replaces a load balancer.
	PutLoadBalancer struct{ LoadBalancer }
	// PutDomain adds or replaces a domain's draft.
	PutDomain struct{ Domain }
	// ActivateDomain makes a draft effective.
	ActivateDomain struct {
		Host string `json:"host"`
	}
	// DeactivateDomain takes a domain out of service and leaves it as a draft: the one that there is, or what was active.
	// Nobody may have a session of it, or Force closes them.
	DeactivateDomain struct {
		Host    string           `json:"host"`
		Force   bool             `json:"force,omitempty"`  // close its sessions, also where an edge does not say whether it has some
		Reason  string           `json:"reason,omitempty"` // required with Force, here or in the envelope
		Counted []DomainSessions `json:"-"`                // measured by the control plane
	}
	// RemoveDomain removes a domain, draft and active, on the same terms.
	RemoveDomain struct {
		Host    string           `json:"host"`
		Force   bool             `json:"force,omitempty"`
		Reason  string           `json:"reason,omitempty"`
		Counted []DomainSessions `json:"-"`
	}
	// RemoveUnit removes a unit to which nothing refers any more.
	RemoveUnit struct {
		ID string `json:"id"`
	}
	// RemoveCluster likewise.
	RemoveCluster struct {
		ID string `json:"id"`
	}
	// RemoveLoadBalancer likewise.
	RemoveLoadBalancer struct {
		ID string `json:"id"`
	}
	// InitRules sets a unit type's baseline, once.
	InitRules struct {
		UnitType string `json:"unitType,omitempty"` // "": the first
		RulesConfig
	}
)

// Commands of edges and of the driver.
type (
	// JoinEdge registers an edge, or renews its address and capacity. An edge that has been given the listening sockets of
	// another one, of its unit and cluster, names it: the other one accepts nobody any more and loses its address to it,
	// in the same event, but stays registered until its last session has ended.
	JoinEdge struct {
		ID        string `json:"id"`
		Directory string `json:"directory"` // its state directory's UUID, see Edge; an id stays with the one it first came from (R7)
		Unit      string `json:"unit"`
		Cluster   string `json:"cluster"`
		Address   string `json:"address"`            // HOST:PORT that other edges and probes dial; of no other edge
		Capacity  int    `json:"capacity,omitempty"` // most sessions; 0: not limited
		Key       string `json:"key,omitempty"`      // X25519, in hex: by it other edges know what this one passes on; "": they do not

		Succeeds          string `json:"succeeds,omitempty"`          // id of the other edge; "": none
		SucceedsDirectory string `json:"succeedsDirectory,omitempty"` // its state directory, which it has told
		SucceedsProof     string `json:"succeedsProof,omitempty"`     // its word for it, see SignSuccession
	}
	// LeaveEdge ends an edge's membership for good. Only the edge itself can say so, by its
	// signature, and only where no wave waits for it.
	LeaveEdge struct {
		ID        string `json:"id"`
		Directory string `json:"directory"` // its state directory's own UUID, as it joined with
	}
	// RetireEdge is an operator's word that an edge is gone for good.
	RetireEdge struct {
		ID     string `json:"id"`
		Reason string `json:"reason,omitempty"` // required, here or in the envelope
	}
	// TakeOffice is a driver's first act in a new term (R1).
	TakeOffice struct {
		Term   uint64 `json:"term"`
		Holder string `json:"holder"`        // the process incarnation
		Key    string `json:"key,omitempty"` // of its beacons, see Office
	}
)

// Commands of cutovers.
type (
	// PreviewCutover proposes a cutover. Ranges and the lists of exact IDs say what changes, or Drain does.
	PreviewCutover struct {
		UnitType string                     `json:"unitType,omitempty"` // "": the first
		Ranges   map[string][]routing.Range `json:"ranges,omitempty"`   // together they replace all ranges
		Drain    string                     `json:"drain,omitempty"`    // a unit to empty, instead of Ranges and exact IDs
		DrainTo  string                     `json:"drainTo,omitempty"`  // who gets it all; "": the others, in proportion to their slots

		// What changes in the lists of exact IDs, by unit. A list stands as it is, or packed (…Delta), or part of it here and
		// part there. An ID that a unit is given leaves every other unit's list.
		Exact            map[string][]string       `json:"exact,omitempty"` // the whole list from now on; units not named keep theirs
		ExactDelta       map[string]routing.Packed `json:"exactDelta,omitempty"`
		ExactAdd         map[string][]string       `json:"exactAdd,omitempty"` // what the list gets
		ExactAddDelta    map[string]routing.Packed `json:"exactAddDelta,omitempty"`
		ExactRemove      map[string][]string       `json:"exactRemove,omitempty"` // what the list loses: then the IDs' slots decide
		ExactRemoveDelta map[string]routing.Packed `json:"exactRemoveDelta,omitempty"`

		Waves     int      `json:"waves,omitempty"`     // 0: as many as the hold time asks for, see defaultWaves
		Steps     []int    `json:"steps,omitempty"`     // percent of the moving keys after each wave, rising to 100; instead of Waves
		Interval  Duration `json:"interval,omitempty"`  // least time between a commit and the next fence
		Rate      *Rate    `json:"rate,omitempty"`      // nil: the policy's
		Gate      *Gate    `json:"gate,omitempty"`      // nil: the policy's
		Emergency bool     `json:"emergency,omitempty"` // of a drain: do without what cannot answer; needs a reason
		Reason    string   `json:"reason,omitempty"`
		Counted   Count    `json:"-"` // measured by the control plane
	}
	// Count is how many live sessions a preview would move.
	Count struct {
		Sessions    int      `json:"sessions"`
		Largest     int      `json:"largest,omitempty"` // of one edge: it takes longest to evict
		SilentEdges []string `json:"silentEdges"`       // edges that did not answer
	}
	// CheckCutover runs the prechecks and stores what they measured.
	CheckCutover struct {
		Cutover string  `json:"cutover"`
		Reason  string  `json:"reason,omitempty"`
		Checks  []Check `json:"-"` // measured by the control plane
	}
	// RetryCheck runs one precheck again.
	RetryCheck struct {
		Cutover string `json:"cutover"`
		Check   string `json:"check"`
		Reason  string `json:"reason,omitempty"`
		Result  Check  `json:"-"` // measured by the control plane
	}
	// SkipCheck lets a cutover go on without one precheck, or without one edge's report.
	SkipCheck struct {
		Cutover string `json:"cutover"`
		Check   string `json:"check,omitempty"`
		Edge    string `json:"edge,omitempty"`
		Reason  string `json:"reason,omitempty"` // required, here or in the envelope
		Term    uint64 `json:"-"`                // of a driver that does without a drained unit's edge in an emergency, else 0
	}
	// StartCutover lets the driver begin. Prechecks that are missing or older than MaxCheckAge are run before.
	StartCutover struct {
		Cutover string  `json:"cutover"`
		Reason  string  `json:"reason,omitempty"`
		Checks  []Check `json:"-"` // measured by the control plane just before
	}
	// PauseCutover unfences the fenced wave, if any, and stops (R11).
	PauseCutover struct {
		Cutover string `json:"cutover"`
		Reason  string `json:"reason,omitempty"`
		Term    uint64 `json:"-"` // the driver's, 0 for an operator
		Code    string `json:"-"` // why the driver pauses: "deadline"
	}
	// ResumeCutover lets a paused cutover go on with a new fence.
	ResumeCutover struct {
		Cutover string `json:"cutover"`
		Reason  string `json:"reason,omitempty"`
	}
	// AbortCutover unfences the fenced wave, if any, and ends the cutover. Committed waves stay where they are.
	AbortCutover struct {
		Cutover string `json:"cutover"`
		Reason  string `json:"reason,omitempty"`
	}
	// RollbackCutover proposes a cutover back. One that has waves left to move ends with it.
	RollbackCutover struct {
		Cutover string `json:"cutover"`
		Reason  string `json:"reason,omitempty"`
		Term    uint64 `json:"-"` // of a driver whose gate failed, which also starts the way back; 0 for an operator
		Counted Count  `json:"-"` // measured by the control plane
	}
	// FenceWave starts the hand-over of the next wave's keys. The driver's.
	FenceWave struct {
		Cutover string `json:"cutover"`
		Wave    int    `json:"wave"`
		Term    uint64 `json:"term"`
	}
	// CommitWave gives the fenced wave's keys to their new owners. The driver's.
	CommitWave struct {
		Cutover string       `json:"cutover"`
		Wave    int          `json:"wave"`
		Term    uint64       `json:"term"`
		Edges   []EdgeResult `json:"edges"`
	}
	// JudgeWave stores what the gate measured of the newest commit. The driver's.
	JudgeWave struct {
		Cutover string     `json:"cutover"`
		Wave    int        `json:"wave"`
		Term    uint64     `json:"term"`
		Result  GateResult `json:"result"`
	}
	// CompleteCutover makes the new rules the rules in force. The driver's.
	CompleteCutover struct {
		Cutover string `json:"cutover"`
		Term    uint64 `json:"term"`
	}
	// FailCutover ends a cutover before anything moved: a hook said no. The driver's.
	FailCutover struct {
		Cutover string `json:"cutover"`
		Term    uint64 `json:"term"`
		Why     Why    `json:"why"`
	}
	// RecordHook stores what became of a hook. The driver's.
	RecordHook struct {
		Cutover string     `json:"cutover"`
		Term    uint64     `json:"term"`
		Result  HookResult `json:"result"`
	}
	// ReportCutover stores the report of a cutover that has ended. The driver's.
	ReportCutover struct {
		Cutover string        `json:"cutover"`
		Term    uint64        `json:"term"`
		Report  CutoverReport `json:"report"`
	}
	// EstablishOwnership says that every registered edge holds a lease, so that exclusive ownership counts from now on
	// (R13). The driver's.
	EstablishOwnership struct {
		Term  uint64 `json:"term"`
		Since uint64 `json:"since"` // Exclusive.Since of the policy by which they hold them
	}
)

// RefuseCommand records that a command was refused, see CommandRefused. The control plane's own.
type RefuseCommand struct {
	Entity string `json:"entity"`
	Verb   string `json:"verb"`
	ID     string `json:"id"`
	Code   string `json:"code"`
}

// reasonOf is the reason that stands in a command's own data.
func reasonOf(c Command) string {
	switch c := c.(type) {
	case ApplyConfig:
		return c.Reason
	case DeactivateDomain:
		return c.Reason
	case RemoveDomain:
		return c.Reason
	case RetireEdge:
		return c.Reason
	case PreviewCutover:
		return c.Reason
	case CheckCutover:
		return c.Reason
	case RetryCheck:
		return c.Reason
	case SkipCheck:
		return c.Reason
	case StartCutover:
		return c.Reason
	case PauseCutover:
		return c.Reason
	case ResumeCutover:
		return c.Reason
	case AbortCutover:
		return c.Reason
	case RollbackCutover:
		return c.Reason
	default:
		return ""
	}
}

func (CreateNamespace) isCommand() {}
func (ApplyConfig) isCommand()     {}
func (PutUnit) isCommand()         {}
func (PutCluster) isCommand()      {}
func (PutLoadBalancer) isCommand() {}
func (PutDomain) isCommand()       {}
func (ActivateDomain) isCommand()  {}
func (RemoveDomain) isCommand()    {}
func (InitRules) isCommand()       {}
func (JoinEdge) isCommand()        {}
func (LeaveEdge) isCommand()       {}
func (RetireEdge) isCommand()      {}
func (TakeOffice) isCommand()      {}
func (PreviewCutover) isCommand()  {}
func (CheckCutover) isCommand()    {}
func (RetryCheck) isCommand()      {}
func (SkipCheck) isCommand()       {}
func (StartCutover) isCommand()    {}
func (PauseCutover) isCommand()    {}
func (ResumeCutover) isCommand()   {}
func (AbortCutover) isCommand()    {}
func (FenceWave) isCommand()       {}
func (CommitWave) isCommand()      {}
func (CompleteCutover) isCommand() {}
func (RefuseCommand) isCommand()   {}
func (RollbackCutover) isCommand() {}
func (JudgeWave) isCommand()       {}
func (FailCutover) isCommand()     {}
func (RecordHook) isCommand()      {}
func (ReportCutover) isCommand()   {}

func (EstablishOwnership) isCommand() {}
func (DeactivateDomain) isCommand()   {}
func (RemoveUnit) isCommand()         {}
func (RemoveCluster) isCommand()      {}
func (RemoveLoadBalancer) isCommand() {}
