package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

// entry is a record as `log` shows it.
type entry struct {
	Seq       uint64          `json:"seq"`
	Time      time.Time       `json:"time"`
	Type      string          `json:"type"`
	Actor     string          `json:"actor"`
	Reason    string          `json:"reason"`
	CommandID string          `json:"commandId"`
	Data      json.RawMessage `json:"data"` // the event; a string if it is no JSON
}

type logCmd struct {
	*cli
	since, entity, actor string
	follow               bool
}

func (c *cli) addLog(p parent) {
	l := &logCmd{cli: c}
	cmd := c.command(p, "log", "Show the journal: everything that ever changed, by whom and why", l.run)
	cmd.Flag("follow", "go on with what comes").Short('f').UnNegatableBoolVar(&l.follow)
	cmd.Flag("since", "from this sequence or time on, or from so long ago (15m)").PlaceHolder("SEQ|TIME|DURATION").StringVar(&l.since)
	cmd.Flag("entity", "only about "+strings.Join(events.Entities(), ", ")).PlaceHolder("NAME").HintOptions(events.Entities()...).StringVar(&l.entity)
	cmd.Flag("actor", "only by this actor, NAME@HOST, or NAME wherever").PlaceHolder("NAME").StringVar(&l.actor)
}

func (l *logCmd) run(ctx context.Context) error {
	if l.entity != "" && !slices.Contains(events.Entities(), l.entity) {
		return usage("--entity %q: want one of %s", l.entity, strings.Join(events.Entities(), ", "))
	}
	var since reader.Point
	if l.since != "" {
		var err error
		if since, err = parseSince(l.since, time.Now()); err != nil {
			return err
		}
	}
	b, r, err := l.history(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	last, err := l.past(ctx, r, since)
	if err != nil || !l.follow {
		return err
	}
	return l.following(ctx, r, last)
}

// following shows what comes after a record until ctx ends.
func (l *logCmd) following(ctx context.Context, r *reader.Reader, last journal.Cursor) error {
	err := r.Journal().Follow(ctx, last, l.record)
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil // Ctrl-C is how following ends
	}
	return reader.Unavailable(err)
}

// past shows what is there already, and returns where it ends.
func (l *logCmd) past(ctx context.Context, r *reader.Reader, since reader.Point) (journal.Cursor, error) {
	head, err := r.Head(ctx)
	if err != nil {
		return journal.Cursor{}, err
	}
	if since.Seq != head+1 { // from the next event on is a good wish
		if err := since.Check(head); err != nil {
			return journal.Cursor{}, err
		}
	}
	from := max(since.Seq, 1)
	if l.follow && from > 1 {
		from-- // not shown: following needs the hash of the one before
	}
	begun := since.Time.IsZero()
	var last events.Record
	err = r.Records(ctx, from, func(rec events.Record) error {
		last = rec
		begun = begun || !rec.Time.Before(since.Time)
		if !begun || rec.Seq < since.Seq {
			return nil
		}
		return l.record(rec)
	})
	if err != nil || last.Seq == 0 {
		return journal.Cursor{Epoch: r.Journal().Epoch()}, err
	}
	return journal.Cursor{Epoch: r.Journal().Epoch(), Seq: last.Seq, Hash: last.Hash()}, nil
}

// record shows one record if it is wanted.
func (l *logCmd) record(rec events.Record) error {
	if l.entity != "" && rec.Entity != l.entity {
		return nil
	}
	if name, _, _ := strings.Cut(rec.Actor, "@"); l.actor != "" && rec.Actor != l.actor && name != l.actor {
		return nil
	}
	if !l.json() {
		return l.text(rec)
	}
	e := entry{rec.Seq, rec.Time, rec.Type, rec.Actor, rec.Reason, rec.CommandID, rec.JSON()}
	if !json.Valid(e.Data) {
		e.Data, _ = json.Marshal(string(rec.Data)) // every string marshals
	}
	return l.line(e)
}

// textData is how many characters of an event are shown as text; -o json shows all.
const textData = 120

func (l *logCmd) text(rec events.Record) error {
	data := []rune(plain(string(rec.JSON())))
	if len(data) > textData {
		data = append(data[:textData], '…')
	}
	reason := ""
	if rec.Reason != "" {
		reason = `"` + plain(rec.Reason) + `"  `
	}
	_, err := fmt.Fprintf(l.out, "%6d  %s  %-17s  %s  %s%s\n", rec.Seq, rec.Time.UTC().Format("2006-01-02T15:04:05.000Z"), plain(rec.Type), dash(rec.Actor), reason, string(data))
	return err
}
