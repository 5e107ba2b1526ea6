package cli

import (
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/unitgate/reader"
	"github.com/unitgate/unitgate/services/unitgate/slb"
)

// hint says what to do about an error where its message does not.
func hint(code string) string {
	switch code {
	case errNoNATS.Code:
		return "start `unitgate dev` for a first look, or name the server with --nats URL or --context NAME"
	case errDenied.Code:
		return "sign in as somebody who may, with --nkey, --creds or --context; nothing happened"
	case command.ErrNoController.Code:
		return "start `unitgate control`; reading commands such as get, route and log work without one"
	case command.ErrNoAnswer.Code:
		return "it may have taken effect: look with `unitgate log --since 5m` before you repeat it"
	case errNoOutcome.Code:
		return "it waits for a control plane until it expires, or was never queued; outcomes are kept for 24 hours; --wait waits for it"
	case errSilentEdges.Code:
		return "see `unitgate get edges`; repeat it when they answer, or `unitgate edge-retire ID --reason TEXT` for one that is gone"
	case errPartly.Code:
		return "each namespace is all or nothing by itself: mend the cause and apply the file again, which leaves alone what was applied"
	case reader.ErrBroken.Code:
		return "`unitgate journal verify` says how far it is intact; whoever runs goes on with the last good state"
	case reader.ErrBeyondHead.Code, reader.ErrBeforeBeginning.Code:
		return "see `unitgate log` for what happened when"
	}
	return rejectionHint(code)
}

// rejectionHint is hint for what the system's rules refuse.
func rejectionHint(code string) string {
	switch code {
	case events.ErrUnknownNamespace.Code:
		return "see `unitgate get namespaces`; `unitgate apply -f FILE` makes one"
	case events.ErrUnknownUnitType.Code, events.ErrNoRules.Code:
		return "see `unitgate get rules` and `unitgate export`"
	case events.ErrUnknownEdge.Code, events.ErrEdgeGone.Code:
		return "see `unitgate get edges`"
	case events.ErrClusterFull.Code:
		return "see `unitgate get edges`; `unitgate edge-retire ID ID … --reason TEXT` for those that are gone"
	case events.ErrUnknownDomain.Code:
		return "see `unitgate get domains`"
	case events.ErrUnknownCutover.Code, events.ErrCutoverOpen.Code, events.ErrWrongState.Code:
		return "see `unitgate get cutovers` and `unitgate cutover show ID`"
	case events.ErrUnknownCheck.Code:
		return "`unitgate cutover check ID` lists the prechecks"
	case events.ErrReasonMissing.Code:
		return "it goes into the journal: repeat it with --reason TEXT"
	case slb.ErrNoCluster.Code:
		return "kubectl annotate service NAME " + slb.ClusterMark + "=CLUSTER"
	case events.ErrInUse.Code:
		return "remove or change what refers to it before, or in the same file"
	case events.ErrSessionsLive.Code:
		return "let them end, or repeat it with --force --reason TEXT, which closes them"
	case events.ErrSessionsUnknown.Code:
		return "see `unitgate get edges`; `unitgate edge-retire ID --reason TEXT` for one that is gone, or repeat it with --force --reason TEXT"
	case events.ErrRulesExist.Code:
		return "take the rules out of the file, and use `unitgate cutover preview --range UNIT=FROM-TO …`"
	case events.ErrStaleVersion.Code:
		return "someone else changed it meanwhile: look at it again, then repeat"
	case events.ErrRangeGap.Code, events.ErrRangeOverlap.Code:
		return "together the ranges cover every slot exactly once"
	case events.ErrNothingMoves.Code:
		return "see `unitgate get rules`"
	case events.ErrPrecheckFailed.Code:
		return "`unitgate cutover retry ID CHECK` or `unitgate cutover skip ID CHECK --reason TEXT`"
	default:
		return ""
	}
}
