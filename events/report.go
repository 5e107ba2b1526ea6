package events

import (
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// What edges and the control plane say to each other. None of it is truth: the journal is.

// EdgeSubject is where an edge and the control plane talk to each other.
func EdgeSubject(namespace, unit, edge, what string) string {
	return "unitgate.edge." + namespace + "." + unit + "." + edge + "." + what
}

// EdgeReport is what an edge says of itself on `unitgate.edge.<namespace>.<unit>.<edge id>.report`, at once when
// something changed and every 2 s (R6). It is sent only after a state at least as new as Applied is on disk, and it is
// signed by the edge's key (SignMessage).
type EdgeReport struct {
	Namespace   string         `json:"namespace"`
	Epoch       string         `json:"epoch"`               // of the journal that Applied counts in
	Edge        string         `json:"edge"`                // id
	Directory   string         `json:"directory,omitempty"` // UUID of its state directory, see Edge; only that of its join is heard
	Unit        string         `json:"unit"`                //
	Cluster     string         `json:"cluster"`             //
	Incarnation string         `json:"incarnation"`         // UUID of the process; a restarted edge has another
	Version     string         `json:"version,omitempty"`   // of its binary, for people
	Serial      uint64         `json:"serial,omitempty"`    // counts this incarnation's reports from 1; 0: in a LeaseRequest, and of versions that do not sign
	Applied     uint64         `json:"applied"`             // every poller decides by this sequence, and it is stored
	StateHash   string         `json:"stateHash"`           // State.Hash at Applied
	Fences      []FenceReport  `json:"fences"`              // one for each fenced wave that the edge has applied
	Sessions    map[string]int `json:"sessions"`            // live sessions by unit type
	Moved       []MovedReport  `json:"moved"`               // what the edge did for running and just completed cutovers

	Counters map[string]Counters `json:"counters,omitempty"` // by unit type, since the process started
	Proxied  map[string]Proxied  `json:"proxied,omitempty"`  // by unit type, those that have any; counted nowhere else
}

// FenceReport says how far an edge is with one fence.
type FenceReport struct {
	Cutover string `json:"cutover"`
	Wave    int    `json:"wave"`
	Fence   uint64 `json:"fence"`   // sequence of the WaveFenced that this is about
	Drained bool   `json:"drained"` // no session and no dial of the fenced keys is left here
	Evicted int    `json:"evicted"` // sessions closed for this fence so far
}

// MovedReport counts what an edge saw of one cutover.
type MovedReport struct {
	Cutover string `json:"cutover"`
	Evicted int    `json:"evicted"`
	Landed  int    `json:"landed"` // sessions admitted on keys that the cutover moved here
}

// ReportEvery is how often an edge repeats its report.
const ReportEvery = 2 * time.Second

// Questions that an edge answers on `unitgate.edge.<namespace>.<unit>.<edge id>.<what>`.
type (
	// CountQuestion ("sessions", "count") asks how many live sessions there are on these keys, or of one routerId, or of these domains,
	// of whatever unit type, handshakes under way included.
	CountQuestion struct {
		UnitType string      `json:"unitType"`
		Slots    []string    `json:"slots,omitempty"` // ranges, no more than there are slots, without the exact IDs that the edge's own rules list
		Except   routing.IDs `json:"except,omitzero"` // further routerIds in Slots that do not count, being keys of their own
		Exact    routing.IDs `json:"exact,omitzero"`
		RouterID string      `json:"routerId,omitempty"`
		Domains  []string    `json:"domains,omitempty"` // hosts, at most MaxDomains; nothing else is asked then
	}
	// CountAnswer answers it.
	CountAnswer struct {
		Sessions int            `json:"sessions"`
		Proxied  int            `json:"proxied,omitempty"` // of RouterID, and not in Sessions: this edge passes them on to one that serves them
		Domains  map[string]int `json:"domains,omitempty"` // by host, without those that have none
	}
	// EvictQuestion ("evict") asks the edge to close one user's sessions now. Nothing changes for the namespace and nothing
	// goes into its journal: the user may come back at once. The edge logs who asked and why.
	EvictQuestion struct {
		UnitType string `json:"unitType"`
		RouterID string `json:"routerId"`
		Actor    string `json:"actor,omitempty"`
		Reason   string `json:"reason,omitempty"`
	}
	// EvictAnswer answers it.
	EvictAnswer struct {
		Sessions int `json:"sessions"` // that are being closed
	}
	// ProbeQuestion ("probe") asks the edge to connect to origins.
	ProbeQuestion struct {
		Origins []string `json:"origins"` // HOST:PORT, at most MaxProbes
	}
	// ProbeAnswer answers it.
	ProbeAnswer struct {
		Failed map[string]string `json:"failed"` // origin -> why it did not answer
	}
	// HandshakeQuestion ("handshake") asks the edge to open a session through its own front door to each of these services,
	// exchange a ping, and close it. No routerId is used (R14).
	HandshakeQuestion struct {
		Services []Service `json:"services"` // at most MaxHandshakes
	}
	// Service is what a client asks for: a host and a path.
	Service struct {
		Host string `json:"host"`
		Path string `json:"path"`
	}
	// HandshakeAnswer answers it, in the order of the question.
	HandshakeAnswer struct {
		Sessions []TriedSession `json:"sessions"`
	}
	// TriedSession is what became of one of them.
	TriedSession struct {
		Service
		Status int      `json:"status"`           // of the HTTP answer, 0 without one
		Failed string   `json:"failed,omitempty"` // why there was no session, or no pong; "": all went well
		Closed bool     `json:"closed,omitempty"` // an origin was there, and closed the connection without an answer
		Took   Duration `json:"took"`             // to the pong, or to the failure
	}
)

// Check refuses a question that names nobody, or that would not fit into a line of a log. The error is *Error.
func (q EvictQuestion) Check() error {
	if err := routing.CheckRouterID(q.RouterID); err != nil {
		return ErrBadRouterID.With("%v", err).At("routerId")
	}
	if err := checkLine(q.Actor, "actor"); err != nil {
		return err
	}
	return checkLine(q.Reason, "reason")
}
