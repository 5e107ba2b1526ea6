package events

// CutoverReport is what an ended cutover did to its users and to everybody else, as its edges measured it.
type CutoverReport struct {
	Evicted   int            `json:"evicted"` // sessions closed for it
	Landed    int            `json:"landed"`  // sessions admitted on moved keys by their new owner
	NotSeen   int            `json:"notSeen"` // evicted, of the users compared, and not come back when the report was made
	Blackout  Blackout       `json:"blackout"`
	Untouched Untouched      `json:"untouched"`
	Edges     []ReportedEdge `json:"edges"`            // of both sides, by id
	Silent    []string       `json:"silent,omitempty"` // edges of both sides that did not answer: nothing above counts them
}

// ReportedEdge is one edge's part.
type ReportedEdge struct {
	ID      string `json:"id"`
	Unit    string `json:"unit"`
	Evicted int    `json:"evicted"`
	Landed  int    `json:"landed"`
}

// Blackout is how long moved users had no session: from the Close to the 101 of their next one, in milliseconds.
// The clocks of the two edges are compared through the reporter's, so it is exact to a round trip.
type Blackout struct {
	Samples int     `json:"samples"` // users that were seen on both sides
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
}

// Untouched counts the sessions on keys that did not move: those that were open at the first fence.
type Untouched struct {
	Before      int  `json:"before"`
	After       int  `json:"after"`       // of them still open, on the same connections
	EndedByPeer int  `json:"endedByPeer"` // of them closed or lost by client or origin
	ClosedByUs  int  `json:"closedByUs"`  // of them closed by an edge, other than by a recorded command
	Same        bool `json:"same"`        // Before = After + EndedByPeer, and ClosedByUs is 0
}
