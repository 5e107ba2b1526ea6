package routing

import (
	"fmt"
	"unicode/utf8"
)

// Slotting is how the routerIds of a unit type are dealt out to slots: the part of an ID that counts, and how many slots
// there are.
type Slotting struct {
	Slots uint32 // 1 to MaxSlots
	Part  Part
}

// Slot is the slot of a routerId.
func (s Slotting) Slot(id string) uint32 { return Slot(s.Part.Of(id), s.Slots) }

// Part says which characters of a routerId count for its slot, as a shop's users that differ in their last digits want
// it. The zero value is the whole ID.
type Part struct {
	From   int `json:"from,omitempty"`   // the first of them, counted from 1; negative: from the end, -1 is the last; 0: 1
	Length int `json:"length,omitempty"` // how many; 0: to the end
}

// Check says whether p names characters that an ID can have. The error wraps ErrBadPart.
func (p Part) Check() error {
	if p.From < -MaxRouterID || p.From > MaxRouterID || p.Length < 0 || p.Length > MaxRouterID {
		return fmt.Errorf("%w: want from -%d to %d and length 0 to %d", ErrBadPart, MaxRouterID, MaxRouterID, MaxRouterID)
	}
	return nil
}

// Of is that part of id, as far as id has it; an ID that has none of it counts whole.
func (p Part) Of(id string) string {
	if p == (Part{}) {
		return id
	}
	from := p.From
	if from < 0 {
		from = max(0, utf8.RuneCountInString(id)+from)
	} else if from > 0 {
		from--
	}
	begin := skip(id, from)
	end := len(id)
	if p.Length > 0 {
		end = begin + skip(id[begin:], p.Length)
	}
	if begin == end {
		return id
	}
	return id[begin:end]
}

// skip is where in s, in bytes, n characters end, or its length if it has fewer.
func skip(s string, n int) int {
	for at := range s {
		if n == 0 {
			return at
		}
		n--
	}
	return len(s)
}
