package events

import "encoding/binary"

// Counters are what an edge has counted of one unit type since its process started.
type Counters struct {
	Handshakes      int `json:"handshakes"`      // answered, by whatever answer
	HandshakeErrors int `json:"handshakeErrors"` // of those, with an error of the edge's own (5xx): no room, no origin, held too long
	Dials           int `json:"dials"`           // tries to have an origin answer a handshake
	DialErrors      int `json:"dialErrors"`      // of those, that failed: no connection, no answer, or one with 5xx
}

// Less is what was counted since earlier, of the same process.
func (c Counters) Less(earlier Counters) Counters {
	return Counters{
		c.Handshakes - earlier.Handshakes, c.HandshakeErrors - earlier.HandshakeErrors, c.Dials - earlier.Dials, c.DialErrors - earlier.DialErrors,
	}
}

// Proxied are the clients of other units that an edge passes on to their edges.
type Proxied struct {
	Sessions int `json:"sessions"` // live
	Evicted  int `json:"evicted"`  // closed by this edge since its process started because their key's owner has changed

	Counters // dials are those of other edges
}

type (
	// CutoverQuestion ("cutover") asks an edge what it saw of a cutover.
	CutoverQuestion struct {
		Cutover  string   `json:"cutover"`
		UnitType string   `json:"unitType"`
		Fences   []uint64 `json:"fences"` // sequences of the fences whose users are asked about, at most MaxFences
		Users    int      `json:"users"`  // most on each side
	}
	// CutoverAnswer answers it. Users are told by numbers that say nothing of their routerIds; an edge remembers some
	// thousands of a cutover, and those with small numbers are remembered everywhere.
	CutoverAnswer struct {
		Known     bool         `json:"known"` // this process remembers the cutover
		Whole     bool         `json:"whole"` // and did so before its first fence: nothing below is missing
		Evicted   int          `json:"evicted"`
		Landed    int          `json:"landed"`
		Bound     uint64       `json:"bound,string"` // users with a number up to it are all told
		Left      []byte       `json:"left"`         // sightings of sessions that were evicted under the fences
		Back      []byte       `json:"back"`         // and of those that landed
		Untouched Untouched    `json:"untouched"`
		Commit    CommitCounts `json:"commit"`
	}
	// CommitCounts are what an edge counted since it decided by a commit: of the newest committed wave.
	CommitCounts struct {
		Fence    uint64   `json:"fence"` // of that wave; 0: it decides by no commit of the cutover
		Whole    bool     `json:"whole"` // the process decided by an earlier state before, so that nothing is missing
		Counters Counters `json:"counters"`
	}
)

// Sighting is a session of a user that was evicted, or landed, so many microseconds before the answer.
type Sighting struct {
	User, Ago uint64
}

// sightingSize is the length of a sighting in an answer: the user's number and the time, both little-endian.
const sightingSize = 16

// AppendSighting appends one to an answer's Left or Back.
func AppendSighting(dst []byte, s Sighting) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, s.User)
	return binary.LittleEndian.AppendUint64(dst, s.Ago)
}

// Sightings reads an answer's Left or Back; what is not whole at its end is left out.
func Sightings(b []byte) []Sighting {
	out := make([]Sighting, 0, len(b)/sightingSize)
	for ; len(b) >= sightingSize; b = b[sightingSize:] {
		out = append(out, Sighting{binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])})
	}
	return out
}
