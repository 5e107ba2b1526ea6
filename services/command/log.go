package command

import (
	"context"
	"encoding/hex"
	"log/slog"

	"github.com/unitgate/unitgate/events"
)

// tell logs what became of a command, in one line: who wanted it, and by what it is found elsewhere. What it says is not
// logged.
func (h *Handler) tell(env events.Envelope, w way, o Outcome) {
	if !h.log.Enabled(context.Background(), slog.LevelWarn) {
		return
	}
	name, via := events.NameOf(env.Command), wayDriver
	switch m := w.message; {
	case m.queued:
		via = wayDurable
	case m.subject != "":
		via = wayAPI
	}
	about := []slog.Attr{
		slog.String("command", name.Entity+"."+name.Verb), slog.String("command_id", env.ID),
		slog.String("via", via), slog.String("actor", env.Actor),
	}
	c := h.cutoverOf(env, o)
	if c.ID != "" {
		about = append(about, slog.String("cutover", c.ID))
	}
	if t, ok := c.Trace(); ok {
		about = append(about, slog.String("trace_id", hex.EncodeToString(t.ID[:])))
	} else if id, _, ok := events.ParseTraceparent(env.Traceparent); ok {
		about = append(about, slog.String("trace_id", hex.EncodeToString(id[:])))
	}
	level, text := slog.LevelInfo, "command accepted"
	switch {
	case o.OK:
		about = append(about, slog.Uint64("seq", o.Seq))
	case o.Error == nil, pending(context.Background(), o) != nil:
		level, text = slog.LevelWarn, "command not decided"
		about = append(about, slog.Any("err", o.Error))
	default:
		text = "command rejected"
		about = append(about, slog.String("code", o.Error.Code), slog.Any("err", o.Error))
	}
	h.log.LogAttrs(context.Background(), level, text, about...)
}
