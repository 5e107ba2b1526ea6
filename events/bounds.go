package events

import "strings"

// What a command may cost before it is understood. A sender needs no more than a few bytes to ask for a lot of memory and
// time (DEFLATE makes 8 MiB of 11 KB; `{}` in a list becomes a structure), so that each step of reading has a bound that is
// checked before the step is taken, and each command the smallest one that its data fits into. The bounds stand here, and
// which command has which one in the catalogue.

// Bound is how large a command may be.
type Bound struct {
	Wire     int // bytes of the message's body, envelope included, before anything is decoded
	Unpacked int // bytes of its data once they are unpacked, see Pack; 0: it does not come packed
}

var (
	// edgeBound is for what edges say of themselves: ten fields of 64 to 256 bytes. Whoever holds an edge's key can send it.
	edgeBound = Bound{Wire: 4 << 10}
	// lineBound is for an id or two, and a reason: at most three texts of maxText bytes, each written as six (\u0000).
	lineBound = Bound{Wire: 8 << 10}
	// partBound is for one part of a configuration: a cluster names up to maxInstances edges of 63 bytes.
	partBound = Bound{Wire: 128 << 10}
	// domainBound is for a domain: its event holds it as it is, see MaxEventSize, and a domain of 64 units and 64 URIs has a
	// few hundred KB.
	domainBound = Bound{Wire: MaxEventSize}
	// bulkBound is for a whole configuration, and for exact IDs by the hundred thousand. A message is what NATS takes by
	// default; 200 domains in 64 units each are 1.4 MB, and 124 KB packed.
	bulkBound = Bound{Wire: 1 << 20, Unpacked: maxUnpacked}
)

// Bounds of the JSON that is decoded strictly, whoever sent it. All but the last one are far beyond what the rules allow,
// which say more about it.
const (
	maxDepth      = 32        // of objects and lists in each other; a URI's origins are at 7
	maxEntries    = 8192      // of one list of objects, or keys of one object: the rules allow maxEntities
	maxLines      = 256 << 10 // of one list of texts: the rules allow 100,000 exact IDs; a table of 2^20 slots has ranges
	maxTextInJSON = 64 << 10  // bytes of one text or key, quoted; a URI's origins are 64 of 260 bytes
	maxDecoded    = 64 << 20  // bytes of memory that a configuration file, or a question, decodes to
	maxCommand    = 24 << 20  // bytes of memory that a command decodes to: 300,000 exact IDs of 11 digits are 9 MB
)

// FindBound is how large a command from outside may be, and whether there is such a one.
func FindBound(entity, verb string) (Bound, bool) {
	for _, e := range entries() {
		if e.entity == entity && e.verb == verb && !e.internal {
			return e.bound, true
		}
	}
	return Bound{}, false
}

// CheckSize refuses the body of a message that is larger than a command may be. The error is ErrTooLarge.
func (b Bound) CheckSize(entity, verb string, size int) error {
	if size > b.Wire {
		return ErrTooLarge.With("%s.%s has %d bytes, a message of it at most %d%s", entity, verb, size, b.Wire, b.hint())
	}
	return nil
}

func (b Bound) hint() string {
	if b.Unpacked == 0 {
		return ""
	}
	return ": pack its data, or split it"
}

// unpack undoes Pack within the command's bound.
func (b Bound) unpack(entity, verb string, data []byte) ([]byte, error) {
	if IsPacked(data) && b.Unpacked == 0 {
		return nil, ErrBadValue.With("%s.%s does not come packed, only %s do: send its data as it is, at most %d bytes",
			entity, verb, strings.Join(packable(), ", "), b.Wire).At("packed")
	}
	data, err := unpack(data, b.Unpacked)
	if err != nil {
		return nil, ErrBadValue.With("%s.%s: %v", entity, verb, err).At("packed")
	}
	return data, nil
}

// packable are the commands that may come packed.
func packable() (out []string) {
	for _, e := range entries() {
		if e.bound.Unpacked > 0 {
			out = append(out, e.entity+"."+e.verb)
		}
	}
	return out
}
