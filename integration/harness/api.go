package harness

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// The JSON that scripts rely on, as the contract names it.

// Ready is what `unitgate dev --ready-file` writes.
type Ready struct {
	NATS      string      `json:"nats"`
	Namespace string      `json:"namespace"`
	Domain    string      `json:"domain"`
	UnitType  string      `json:"unitType"`
	Units     []ReadyUnit `json:"units"`
}

// ReadyUnit is a unit with the addresses of its edges.
type ReadyUnit struct {
	ID    string   `json:"id"`
	Name  string   `json:"name"`
	Edges []string `json:"edges"`
}

// Cutover is what `cutover preview|check|start|show -o json` print.
type Cutover struct {
	ID          string      `json:"id"`
	State       string      `json:"state"`
	UnitType    string      `json:"unitType"`
	RuleFrom    int         `json:"ruleFrom"`
	RuleTo      int         `json:"ruleTo"`
	Moves       []Move      `json:"moves"`
	ExactMoves  []ExactMove `json:"exactMoves"`
	Slots       int         `json:"slots"`
	Sessions    int         `json:"sessions"`
	SilentEdges []string    `json:"silentEdges"`
	Diff        string      `json:"diff"`
	Reason      *Failure    `json:"reason"`
	Checks      []Check     `json:"checks"`
	Waves       []Wave      `json:"waves"`
	Evicted     int         `json:"evicted"`
	Landed      int         `json:"landed"`
	Edges       []CutEdge   `json:"edges"`
	Report      *Report     `json:"report"`
	RollbackOf  string      `json:"rollbackOf"`
	TraceID     string      `json:"traceId"`
}

// Report is what an ended cutover did to its users and to all others.
type Report struct {
	Evicted  int `json:"evicted"`
	Landed   int `json:"landed"`
	Compared int `json:"compared"`
	NotSeen  int `json:"notSeen"`
	Blackout struct {
		Samples int     `json:"samples"`
		P50     float64 `json:"p50"`
		P99     float64 `json:"p99"`
		Within  float64 `json:"within"`
	} `json:"blackout"`
	Untouched struct {
		Before      int  `json:"before"`
		After       int  `json:"after"`
		EndedByPeer int  `json:"endedByPeer"`
		ClosedByUs  int  `json:"closedByUs"`
		Compared    int  `json:"compared"`
		Same        bool `json:"same"`
	} `json:"untouched"`
	Silent []string `json:"silent"`
}

// Move is a range of slots that changes its owner.
type Move struct {
	From   int    `json:"from"`
	To     int    `json:"to"`
	Source string `json:"source"`
	Target string `json:"target"`
}

// ExactMove is an exact ID that changes its owner.
type ExactMove struct {
	ID     string `json:"id"`
	Source string `json:"source"`
	Target string `json:"target"`
}

// Check is a precheck's verdict.
type Check struct {
	ID       string `json:"id"`
	State    string `json:"state"`
	Message  string `json:"message"`
	Measured any    `json:"measured"`
}

// Wave is a part of a cutover.
type Wave struct {
	Index      int      `json:"index"`
	State      string   `json:"state"`
	Evicted    int      `json:"evicted"`
	WaitingFor []string `json:"waitingFor"`
}

// CutEdge is an edge's part in a cutover.
type CutEdge struct {
	ID      string `json:"id"`
	Unit    string `json:"unit"`
	Evicted int    `json:"evicted"`
}

// Failure is an error as `-o json` prints it.
type Failure struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Edge is an element of `get edges -o json`.
type Edge struct {
	ID        string `json:"id"`
	Unit      string `json:"unit"`
	Cluster   string `json:"cluster"`
	Address   string `json:"address"`
	Applied   uint64 `json:"applied"`
	Head      uint64 `json:"head"`
	StateHash string `json:"stateHash"`
	Live      bool   `json:"live"`
	Sessions  int    `json:"sessions"`
	Lease     string `json:"lease"` // seconds left; "" (or null) where none is needed
}

// SessionCount is an element of `get sessions -o json`.
type SessionCount struct {
	Unit     string `json:"unit"`
	Edge     string `json:"edge"`
	UnitType string `json:"unitType"`
	Sessions int    `json:"sessions"`
}

// Route is what `route ROUTER_ID -o json` prints.
type Route struct {
	RouterID string `json:"routerId"`
	Slot     int    `json:"slot"`
	Unit     string `json:"unit"`
	Rule     string `json:"rule"`
	Address  string `json:"address"`
}

// API runs the CLI's commands against one namespace.
type API struct {
	NATS      string
	Namespace string
	Flags     []string // more of every command, such as how it signs in
}

// Run runs a command with -o json.
func (a API) Run(t testing.TB, args ...string) Result {
	t.Helper()
	return Run(t, slices.Concat(args, []string{"--nats", a.NATS, "-n", a.Namespace, "-o", "json"}, a.Flags)...)
}

// Cutover runs `cutover …`, which must end with code 0, and decodes its answer.
func (a API) Cutover(t testing.TB, args ...string) Cutover {
	t.Helper()
	var c Cutover
	a.Run(t, append([]string{"cutover"}, args...)...).OK(t).JSON(t, &c)
	return c
}

// AwaitCutover polls `cutover show` until done.
func (a API) AwaitCutover(t testing.TB, id string, within time.Duration, what string, done func(Cutover) bool) Cutover {
	t.Helper()
	var c Cutover
	Eventually(t, within, "cutover "+id+": "+what, func() bool {
		c = a.Cutover(t, "show", id)
		return done(c)
	})
	return c
}

// Route explains where a routerId belongs.
func (a API) Route(t testing.TB, id string) Route {
	t.Helper()
	var r Route
	a.Run(t, "route", id).OK(t).JSON(t, &r)
	return r
}

// Edges lists the edges.
func (a API) Edges(t testing.TB) []Edge {
	t.Helper()
	var edges []Edge
	a.Run(t, "get", "edges").OK(t).JSON(t, &edges)
	return edges
}

// Refused fails the test unless a command was rejected with this code, on stderr and as JSON.
func (r Result) Refused(t testing.TB, exit int, code string) Failure {
	t.Helper()
	r.Exits(t, exit)
	var doc struct {
		Error Failure `json:"error"`
	}
	r.JSON(t, &doc)
	if doc.Error.Code != code || !strings.Contains(r.Stderr, code) {
		t.Errorf("unitgate %s: refused with %q, want code %s there and on stderr: %s", strings.Join(r.Args, " "), doc.Error, code, r.Stderr)
	}
	return doc.Error
}
