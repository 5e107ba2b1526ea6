package routing

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// ShortList is the number of exact IDs up to which a list is written as it is; a longer one travels packed. One rule for
// all events and states, so that one content has one form.
const ShortList = 64

// maxPacked bounds the packed form of a list, in bytes: no set that is allowed takes more. A state may hold such a one,
// which became long step by step, and so may an event, where DEFLATE finds more than the front coding does.
const maxPacked = MaxExactText + 10*MaxExact + 32

// ErrPacked says that bytes are not the packed form of a list.
var ErrPacked = errors.New("bad packed list")

// Packed is the packed form of a set of IDs, in JSON as base64 (RFC 4648 section 4, with padding). Version 1 is, with
// every number a uvarint (https://protobuf.dev/programming-guides/encoding/#varints) in as few bytes as it takes:
//
//	0x01                                   the version
//	n, first, gap, gap, …                  the IDs that are decimal numbers without leading zeros and of up to 19 digits, in
//	                                       order of value: how many, the first one, and by how much each further one is larger
//	m, (shared, length, bytes), …          all the others, in order of their bytes: how many, and of each how many bytes it
//	                                       shares with the one before, as many as there are, how many follow, and these
//
// Nothing follows. A set has exactly one packed form, which depends on no library: whoever packs it gets these bytes, and
// nothing else is read as one. Sorted numbers of which 100,000 are dealt out over 11 digits take 3 bytes each.
type Packed []byte

// String says how long it is: it is nothing to read.
func (p Packed) String() string { return fmt.Sprintf("packed list of %d bytes", len(p)) }

// MarshalText writes base64.
func (p Packed) MarshalText() ([]byte, error) {
	return base64.StdEncoding.AppendEncode(nil, p), nil
}

// UnmarshalText reads base64. Whether it is the form of a list is asked by IDs. The error wraps ErrPacked.
func (p *Packed) UnmarshalText(text []byte) error {
	if base64.StdEncoding.DecodedLen(len(text)) > maxPacked+2 {
		return fmt.Errorf("%w: more than %d bytes", ErrPacked, maxPacked)
	}
	b, err := base64.StdEncoding.Strict().AppendDecode(nil, text)
	if err == nil && bytes.ContainsAny(text, "\r\n") { // which the decoder skips
		err = errors.New("a line break")
	}
	if err != nil {
		return fmt.Errorf("%w: want base64 with padding: %w", ErrPacked, err)
	}
	*p = b
	return nil
}

// Pack is the packed form of a set.
func Pack(s IDs) Packed {
	b := make(Packed, 0, 16+3*len(s.nums)+2*len(s.ends)+len(s.text))
	b = append(b, 1)
	b = binary.AppendUvarint(b, uint64(len(s.nums)))
	last := uint64(0)
	for _, v := range s.nums {
		b = binary.AppendUvarint(b, v-last)
		last = v
	}
	b = binary.AppendUvarint(b, uint64(len(s.ends)))
	before := ""
	for i := range s.ends {
		id := s.textAt(i)
		shared := sharedPrefix(before, id)
		b = binary.AppendUvarint(b, uint64(shared))
		b = binary.AppendUvarint(b, uint64(len(id)-shared))
		b = append(b, id[shared:]...)
		before = id
	}
	return b
}

func sharedPrefix(a, b string) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// IDs unpacks the set. It takes no more memory than a set may, whatever the bytes say. Errors wrap ErrPacked,
// ErrBadRouterID, ErrExactTwice or ErrTooMany.
func (p Packed) IDs() (IDs, error) {
	if len(p) == 0 || len(p) > maxPacked {
		return IDs{}, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrPacked, len(p), maxPacked)
	}
	if p[0] != 1 {
		return IDs{}, fmt.Errorf("%w: its version is %d, this program knows 1", ErrPacked, p[0])
	}
	u := unpacker{rest: p[1:], size: len(p)}
	u.numbers()
	u.texts()
	if u.err == nil && len(u.rest) > 0 {
		u.fail("%d bytes follow it", len(u.rest))
	}
	if u.err != nil {
		return IDs{}, u.err
	}
	return u.set, nil
}

// unpacker reads one packed list; the first error stays.
type unpacker struct {
	rest []byte
	size int // of the whole
	set  IDs
	err  error
}

func (u *unpacker) fail(format string, args ...any) {
	if u.err == nil {
		u.err = fmt.Errorf("%w: byte %d: %s", ErrPacked, u.size-len(u.rest), fmt.Sprintf(format, args...))
	}
}

// uvarint reads one number, which must not be longer than it needs to be.
func (u *unpacker) uvarint() uint64 {
	if u.err != nil {
		return 0
	}
	v, n := binary.Uvarint(u.rest)
	if n <= 0 || n > 1 && u.rest[n-1] == 0 {
		u.fail("no number, or one that is longer than it needs to be")
		return 0
	}
	u.rest = u.rest[n:]
	return v
}

// count reads how many IDs follow, each of which takes at least so many bytes.
func (u *unpacker) count(each int) int {
	n := u.uvarint()
	if n > MaxExact || int(n)+u.set.Len() > MaxExact {
		u.err = fmt.Errorf("%w: %d in one list, at most %d are allowed", ErrTooMany, n, MaxExact)
		return 0
	}
	if int(n)*each > len(u.rest) {
		u.fail("%d IDs are announced, %d bytes follow", n, len(u.rest))
		return 0
	}
	return int(n)
}

func (u *unpacker) numbers() {
	n := u.count(1)
	if u.err != nil || n == 0 {
		return
	}
	const end = 1e19 // the first number of 20 digits
	u.set.nums = make([]uint64, 0, n)
	last := uint64(0)
	for i := range n {
		gap := u.uvarint()
		switch {
		case u.err != nil:
			return
		case i > 0 && gap == 0:
			u.err = fmt.Errorf("%w: %d stands in one list twice", ErrExactTwice, last)
			return
		case gap > math.MaxUint64-last || last+gap >= end:
			u.fail("a number of more than %d digits", maxDigits)
			return
		}
		last += gap
		u.set.nums = append(u.set.nums, last)
	}
}

func (u *unpacker) texts() {
	n := u.count(2)
	if u.err != nil || n == 0 {
		return
	}
	u.set.ends = make([]uint32, 0, n)
	var text []byte
	begin := 0 // of the ID before
	for i := range n {
		shared, length := u.uvarint(), u.uvarint()
		switch before := text[begin:]; {
		case u.err != nil:
			return
		case length > MaxRouterID || shared > uint64(len(before)) || length > uint64(len(u.rest)):
			u.fail("%d bytes of the ID before and %d further ones: there are %d and %d", shared, length, len(before), len(u.rest))
			return
		case len(text)+int(shared+length) > MaxExactText:
			u.err = fmt.Errorf("%w: those that are no numbers have more than %d bytes", ErrTooMany, MaxExactText)
			return
		}
		before := string(text[begin:])
		begin = len(text)
		text = append(text, before[:shared]...)
		text = append(text, u.rest[:length]...)
		u.rest = u.rest[length:]
		if u.text(before, string(text[begin:]), int(shared), i); u.err != nil {
			return
		}
		u.set.ends = append(u.set.ends, uint32(len(text)))
	}
	u.set.text = string(text)
	u.set.ends = slices.Clip(u.set.ends)
}

// text checks one ID that is no number.
func (u *unpacker) text(before, id string, shared, i int) {
	if err := CheckRouterID(id); err != nil {
		u.err = err
		return
	}
	_, number := decimal(id)
	switch {
	case i > 0 && id == before:
		u.err = fmt.Errorf("%w: %q stands in one list twice", ErrExactTwice, id)
	case i > 0 && id < before:
		u.fail("%q stands behind %q: the IDs are not in order", id, before)
	case number:
		u.fail("%q is a number and stands among those that are none", id)
	case shared != sharedPrefix(before, id):
		u.fail("%q shares more bytes with the ID before than it says", id)
	}
}
