package cli

import (
	"log/slog"

	"github.com/choria-io/fisk"

	"github.com/unitgate/unitgate/services/telemetry"
)

// logging holds the flags that say how a server logs to standard error.
type logging struct {
	level  string
	format string // auto, text or json
}

func (l *logging) add(cmd *fisk.CmdClause, level string) {
	cmd.Flag("log-level", "what is logged to standard error: debug (also single sessions), info, warn or error").Envar("UNITGATE_LOG_LEVEL").Default(level).EnumVar(&l.level, "debug", "info", "warn", "error")
	cmd.Flag("log-format", "text, json (one object a line), or auto: text on a terminal, else json").Envar("UNITGATE_LOG_FORMAT").Default("auto").EnumVar(&l.format, "auto", "text", "json")
}

// logger logs as the flags say, and so does from then on what has no logger of its own, in this process: nbio, say.
func (c *cli) logger(l *logging) *slog.Logger {
	level, err := telemetry.ParseLevel(l.level)
	if err != nil {
		level = slog.LevelInfo // the flag takes no other values
	}
	w, asJSON := c.err, l.format == "json" || l.format == "auto" && c.tty == nil
	if plain, ok := w.(letters); ok && asJSON {
		w = documents(plain)
	}
	log := telemetry.NewLogger(w, level, asJSON)
	slog.SetDefault(log)
	return log
}
