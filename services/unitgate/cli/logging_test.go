package cli

import (
	"encoding/json"
	"log"
	"log/slog"
	"strings"
	"testing"
)

// Lines of libraries, which have no logger of ours, are like all others: nbio's go to slog's default.
func TestLibrariesLogAlike(t *testing.T) {
	before, flags, out := slog.Default(), log.Flags(), log.Writer()
	t.Cleanup(func() { slog.SetDefault(before); log.SetFlags(flags); log.SetOutput(out) })
	var b strings.Builder
	(&cli{err: &b}).logger(&logging{level: "warn", format: "json"})
	slog.Default().Info("below the level")
	slog.Default().Warn("nbio: something")
	var line struct{ Level, Msg string }
	if err := json.Unmarshal([]byte(b.String()), &line); err != nil || line.Level != "WARN" || line.Msg != "nbio: something" {
		t.Errorf("%v: %q", err, b.String())
	}
}
