package events

import (
	"errors"
	"fmt"
	"strings"

	"github.com/unitgate/unitgate/events/routing"
)

// Error is a rejection: nothing was changed, and the text says what to do about it.
type Error struct {
	Code    string `json:"code"`            // stable machine word: "range_gap"
	Message string `json:"message"`         // one line for people
	Field   string `json:"field,omitempty"` // path into the command's data: "domains[0].units.center.cluster"
}

func (e *Error) Error() string {
	if e.Field == "" {
		return e.Code + ": " + e.Message
	}
	return e.Code + ": " + e.Field + ": " + e.Message
}

// Is makes errors.Is compare codes, so that the sentinels below match whatever the message.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// With is a copy of the sentinel with a message, shortened where a caller's value would make it endless.
func (e *Error) With(format string, args ...any) *Error {
	return &Error{Code: e.Code, Message: cut(fmt.Sprintf(format, args...), 1024)}
}

// At is a copy that names the field.
func (e *Error) At(field string) *Error {
	return &Error{Code: e.Code, Message: e.Message, Field: cut(field, 256)}
}

// cut is the first n bytes of s as valid UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}

// The rejections of the core. A command that gets one of them changed nothing.
var (
	// The form of a command.
	ErrBadCommand     = &Error{Code: "bad_command"}     // no such entity and verb, or not JSON
	ErrBadID          = &Error{Code: "bad_id"}          // a command id that is no UUID
	ErrUnknownField   = &Error{Code: "unknown_field"}   // a key that the command does not have
	ErrDuplicateField = &Error{Code: "duplicate_field"} // a key given twice
	ErrBadType        = &Error{Code: "bad_type"}        // a value of the wrong JSON type
	ErrMissingField   = &Error{Code: "missing_field"}   // a required value is not there
	ErrBadValue       = &Error{Code: "bad_value"}       // a value outside its set or bounds
	ErrBadName        = &Error{Code: "bad_name"}        // an id or name that breaks the naming rules
	ErrDuplicateName  = &Error{Code: "duplicate_name"}  // one id twice in a list
	ErrUnsupported    = &Error{Code: "unsupported"}     // a value that this version does not implement
	ErrTooLarge       = &Error{Code: "too_large"}       // the event would exceed MaxEventSize

	// Rules.
	ErrBadSlots      = &Error{Code: "bad_slots"}
	ErrBadRange      = &Error{Code: "bad_range"}
	ErrRangeGap      = &Error{Code: "range_gap"}
	ErrRangeOverlap  = &Error{Code: "range_overlap"}
	ErrBadRouterID   = &Error{Code: "bad_router_id"}
	ErrExactConflict = &Error{Code: "exact_conflict"} // one exact ID in two units
	ErrRulesExist    = &Error{Code: "rules_exist"}    // rules change through a cutover only
	ErrNoRules       = &Error{Code: "no_rules"}

	// What a command refers to.
	ErrUnknownNamespace = &Error{Code: "unknown_namespace"}
	ErrNamespaceExists  = &Error{Code: "namespace_exists"}
	ErrUnknownUnit      = &Error{Code: "unknown_unit"}
	ErrUnknownUnitType  = &Error{Code: "unknown_unit_type"}
	ErrUnknownCluster   = &Error{Code: "unknown_cluster"}
	ErrUnknownBalancer  = &Error{Code: "unknown_load_balancer"}
	ErrUnknownDomain    = &Error{Code: "unknown_domain"}
	ErrUnknownEdge      = &Error{Code: "unknown_edge"}
	ErrUnknownCutover   = &Error{Code: "unknown_cutover"}
	ErrUnknownCheck     = &Error{Code: "unknown_check"}
	ErrInUse            = &Error{Code: "in_use"}           // something else refers to what would be removed
	ErrSessionsLive     = &Error{Code: "sessions_live"}    // of the domain that would go
	ErrSessionsUnknown  = &Error{Code: "sessions_unknown"} // whether there are any: an edge does not answer
	ErrCenter           = &Error{Code: "center"}           // more than one center
	ErrStaleVersion     = &Error{Code: "stale_version"}
	ErrNothingChanges   = &Error{Code: "nothing_changes"}

	// Edges and the office.
	ErrNotAllowed    = &Error{Code: "not_allowed"}    // the cluster lists its instances and this is none
	ErrEdgeGone      = &Error{Code: "edge_gone"}      // a retired or left id never rejoins (R7)
	ErrEdgeMoved     = &Error{Code: "edge_moved"}     // an id stays in its unit and cluster
	ErrEdgeElsewhere = &Error{Code: "edge_elsewhere"} // an id stays with its state directory (R7)
	ErrEdgeSucceeded = &Error{Code: "edge_succeeded"} // another edge has taken over from this one
	ErrAddressTaken  = &Error{Code: "address_taken"}  // another edge has joined with this address
	ErrBadSignature  = &Error{Code: "bad_signature"}  // what is said in an edge's name is not signed by its key
	ErrClusterFull   = &Error{Code: "cluster_full"}   // MaxEdges have joined already
	ErrStaleTerm     = &Error{Code: "stale_term"}     // the sender is not in office (R1)
	ErrBehind        = &Error{Code: "behind"}         // no lease for an edge that has not applied the newest fence (R4)
	ErrTwoProcesses  = &Error{Code: "two_processes"}  // two processes speak under one edge id (R7)
	ErrNewEpoch      = &Error{Code: "new_epoch"}      // no lease yet: those that an earlier journal granted may run

	// Cutovers.
	ErrNothingMoves   = &Error{Code: "nothing_moves"}
	ErrCutoverOpen    = &Error{Code: "cutover_open"}
	ErrWrongState     = &Error{Code: "wrong_state"}
	ErrPrecheckFailed = &Error{Code: "precheck_failed"}
	ErrReasonMissing  = &Error{Code: "reason_missing"}
	ErrBadSteps       = &Error{Code: "bad_steps"}       // percentages that do not rise to 100
	ErrNotEstablished = &Error{Code: "not_established"} // exclusive ownership does not count yet (R13)
)

// fromRouting gives the errors of routing.NewRules their codes; ranges and exact are the paths of its arguments.
func fromRouting(err error, ranges, exact string) error {
	for _, m := range []struct {
		err   error
		as    *Error
		field string
	}{
		{routing.ErrBadRange, ErrBadRange, ranges}, {routing.ErrGap, ErrRangeGap, ranges}, {routing.ErrOverlap, ErrRangeOverlap, ranges},
		{routing.ErrBadRouterID, ErrBadRouterID, exact}, {routing.ErrExactTwice, ErrExactConflict, exact},
		{routing.ErrTooMany, ErrTooLarge, exact}, {routing.ErrPacked, ErrBadValue, exact},
	} {
		if errors.Is(err, m.err) {
			return m.as.With("%v", err).At(m.field)
		}
	}
	return ErrBadValue.With("%v", err).At(ranges)
}
