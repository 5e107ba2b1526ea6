package cli

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/choria-io/fisk"

	"github.com/unitgate/unitgate/services/unitgate/reader"
)

// point is a flag or argument for a point in history. Its errors name it.
type point struct {
	name string
	to   *reader.Point
}

func (p point) String() string { return p.to.String() }

func (p point) Set(s string) (err error) {
	if *p.to, err = reader.ParsePoint(s); err != nil {
		return fmt.Errorf("%s %s", p.name, strings.TrimPrefix(err.Error(), reader.ErrBadPoint.Code+": "))
	}
	return nil
}

// addAt adds --at.
func addAt(cmd *fisk.CmdClause, to *reader.Point) {
	cmd.Flag("at", "as it was after this sequence, or at this time (2026-01-31T12:00:00Z)").PlaceHolder("SEQ|TIME").SetValue(point{"--at", to})
}

// past reports whether a point was given.
func past(p reader.Point) bool { return p != reader.Point{} }

// parseSince reads the start of a log: a point, or how long ago.
func parseSince(s string, now time.Time) (reader.Point, error) {
	if d, err := time.ParseDuration(s); err == nil {
		if d < 0 {
			d = -d
		}
		return reader.Point{Time: now.Add(-d)}, nil
	}
	p, err := reader.ParsePoint(s)
	if err != nil {
		return p, usage("--since %q: want a sequence (42), a time (2026-01-31T12:00:00Z) or how long ago (15m)", s)
	}
	return p, nil
}

// dash stands for what is not there.
func dash(s string) string { return cmp.Or(plain(s), "-") }
