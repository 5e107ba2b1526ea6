package events

import "strings"

// What an edge is asked on `unitgate.edge.<namespace>.<unit>.<edge id>.<what>`, by the subject's last token.
const (
	AskStatus    = "status"    // nothing; how the edge stands
	AskSessions  = "sessions"  // a CountQuestion
	AskEvict     = "evict"     // an EvictQuestion
	AskProbe     = "probe"     // a ProbeQuestion
	AskHandshake = "handshake" // a HandshakeQuestion
	AskCutover   = "cutover"   // a CutoverQuestion

	// The control plane's own, so that no other role's questions can take the places of those that cutovers wait for.
	AskStanding = "standing" // as AskStatus
	AskCount    = "count"    // as AskSessions
)

// Bounds of questions, beyond that of their messages.
const (
	MaxProbes     = 1024     // origins of a ProbeQuestion
	MaxHandshakes = 64       // services of a HandshakeQuestion
	MaxDomains    = 1024     // domains of a CountQuestion
	MaxFences     = maxWaves // fences of a CutoverQuestion
)

// QuestionBound is how large a question may be, and whether there is such a one. Only those that name keys by the thousand,
// or origins, come packed.
func QuestionBound(what string) (Bound, bool) {
	switch what {
	case AskStatus, AskStanding:
		return Bound{Wire: 1 << 10}, true
	case AskSessions, AskCount:
		return bulkBound, true
	case AskEvict, AskCutover: // a hundred fences are 2 KB
		return lineBound, true
	case AskProbe: // a thousand names of 253 bytes with their ports
		return Bound{Wire: 288 << 10, Unpacked: 288 << 10}, true
	case AskHandshake: // 64 hosts with their paths
		return Bound{Wire: 160 << 10, Unpacked: 160 << 10}, true
	}
	return Bound{}, false
}

// CheckQuestion refuses the body of a question that is larger than it may be. The error is ErrTooLarge.
func (b Bound) CheckQuestion(what string, size int) error {
	if size > b.Wire {
		return ErrTooLarge.With("a %s question of %d bytes, at most %d are allowed: ask for less at a time", what, size, b.Wire)
	}
	return nil
}

// OpenQuestion is what a question says: its body, unpacked if it is packed. The error is *Error.
func (b Bound) OpenQuestion(what string, body []byte) ([]byte, error) {
	if err := b.CheckQuestion(what, len(body)); err != nil {
		return nil, err
	}
	if b.Unpacked == 0 && IsPacked(body) {
		return nil, ErrBadValue.With("a %s question does not come packed, only %s do: send it as it is, at most %d bytes", what,
			strings.Join([]string{AskSessions, AskCount, AskProbe, AskHandshake}, ", "), b.Wire).At("packed")
	}
	data, err := unpack(body, b.Unpacked)
	if err != nil {
		return nil, ErrTooLarge.With("a %s question: %v: ask for less at a time", what, err).At("packed")
	}
	return data, nil
}
