package reader

import (
	"fmt"
	"strconv"
	"time"

	"github.com/unitgate/unitgate/events"
)

// What can be wrong with a point in history.
var (
	ErrBadPoint        = &events.Error{Code: "bad_point"}        // no sequence and no time
	ErrBeyondHead      = &events.Error{Code: "beyond_head"}      // it has not happened yet
	ErrBeforeBeginning = &events.Error{Code: "before_beginning"} // the namespace was not there yet
)

// Point is a point in a namespace's history: the zero Point is the head, otherwise either Seq or Time is set.
type Point struct {
	Seq uint64 // after the event with this sequence

	// Time is after the last event before the first one that was decided later than this. Controllers have clocks of
	// their own, so the times of neighbouring events may be out of order by as much as those differ; a point must still
	// be a prefix of the journal, since only prefixes ever held.
	Time time.Time
}

// ParsePoint reads a sequence, or a time as RFC 3339 has it. The error is ErrBadPoint.
func ParsePoint(s string) (Point, error) {
	if n, err := strconv.ParseUint(s, 10, 64); err == nil {
		if n == 0 {
			return Point{}, ErrBadPoint.With("sequences begin with 1")
		}
		return Point{Seq: n}, nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil || t.IsZero() {
		return Point{}, ErrBadPoint.With("%q: want a sequence (42) or a time (2026-01-31T12:00:00Z)", s)
	}
	return Point{Time: t}, nil
}

// String is the form that ParsePoint reads; "the head" for the head.
func (p Point) String() string {
	switch {
	case p.Seq > 0:
		return strconv.FormatUint(p.Seq, 10)
	case !p.Time.IsZero():
		return p.Time.Format(time.RFC3339Nano)
	}
	return "the head"
}

// before reports whether p lies before rec happened.
func (p Point) before(rec events.Record) bool { return !p.Time.IsZero() && rec.Time.After(p.Time) }

// Check refuses, with ErrBeyondHead, what has not happened yet: the answer could still change.
func (p Point) Check(head uint64) error {
	if p.Seq > head {
		return ErrBeyondHead.With("sequence %d has not happened yet: the journal ends at %d", p.Seq, head)
	}
	if ahead := time.Until(p.Time); !p.Time.IsZero() && ahead > 0 {
		return ErrBeyondHead.With("%s has not happened yet: it is %s from now", p, fmt.Sprint(ahead.Round(time.Second)))
	}
	return nil
}
