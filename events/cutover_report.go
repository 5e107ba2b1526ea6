package events

// CutoverReport is what an ended cutover did to its users and to everybody else, as its edges measured it.
type CutoverReport struct {
	Evicted   int            `json:"evicted"`  // sessions closed for it
	Landed    int            `json:"landed"`   // sessions admitted on moved keys by their new owner
	Compared  int            `json:"compared"` // evicted sessions of which both sides are known: a sample where there are thousands
	NotSeen   int            `json:"notSeen"`  // of those compared: not come back when the report was made
	Blackout  Blackout       `json:"blackout"`
	Untouched Untouched      `json:"untouched"`
	Edges     []ReportedEdge `json:"edges"`            // of both sides, by id
	Silent    []string       `json:"silent,omitempty"` // edges that did not answer, or have restarted meanwhile: what they know is missing above
}

// ReportedEdge is one edge's part.
type ReportedEdge struct {
	ID      string `json:"id"`
	Unit    string `json:"unit"`
	Evicted int    `json:"evicted"`
	Landed  int    `json:"landed"`
}

// Blackout is how long moved users had no session: from the Close to the 101 of their next one, in milliseconds.
// The clocks of the two edges are compared through the reporter's.
type Blackout struct {
	Samples int     `json:"samples"` // sessions that were seen on both sides
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	Within  float64 `json:"within"` // the error of each is at most this: the slowest round trip to an edge
}

// Untouched counts the sessions on keys that did not move: those that were open at the first fence.
type Untouched struct {
	Before      int  `json:"before"`
	After       int  `json:"after"`             // of them still open, on the same connections
	EndedByPeer int  `json:"endedByPeer"`       // of them closed or lost by client or origin
	Evicted     int  `json:"evicted,omitempty"` // of them closed because an operator evicted the user
	ClosedByUs  int  `json:"closedByUs"`        // of them closed by an edge for any other reason: a cutover's doing, or the edge was stopped
	Compared    int  `json:"compared"`          // of those still open: whose sockets' names in the kernel were compared, a sample
	Changed     int  `json:"changed"`           // of those compared: not the sockets that they had
	Same        bool `json:"same"`              // Before = After + EndedByPeer + Evicted, and ClosedByUs and Changed are 0
}

// Add adds another edge's, or another poller's.
func (u *Untouched) Add(o Untouched) {
	u.Before, u.After, u.EndedByPeer, u.Evicted = u.Before+o.Before, u.After+o.After, u.EndedByPeer+o.EndedByPeer, u.Evicted+o.Evicted
	u.ClosedByUs, u.Compared, u.Changed = u.ClosedByUs+o.ClosedByUs, u.Compared+o.Compared, u.Changed+o.Changed
}

// Judge says whether they are the same sessions.
func (u *Untouched) Judge() {
	u.Same = u.Before == u.After+u.EndedByPeer+u.Evicted && u.ClosedByUs == 0 && u.Changed == 0
}
