package cli

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/services/unitgate/admin"
)

// TestReady asks a real admin listener, that of a controller, in each of its states.
func TestReady(t *testing.T) {
	var why error
	a, err := admin.Listen("127.0.0.1:0", admin.Source{Ready: func() error { return why }, Status: func(context.Context) any { return nil }}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	ask := func(want int, text string, args ...string) {
		t.Helper()
		var out, errs bytes.Buffer
		code := Run(t.Context(), append([]string{"ready"}, args...), strings.NewReader(""), &out, &errs)
		if code != want || !strings.Contains(out.String()+errs.String(), text) {
			t.Errorf("ready %q ends with %d: %s%s; want %d and %q", args, code, out.String(), errs.String(), want, text)
		}
	}
	ask(exitDone, "ok", "--admin", a.Addr())
	why = errors.New("starting: no journal could be opened yet")
	ask(exitFailed, why.Error(), "--admin", a.Addr())
	ask(exitDone, "ok", "--admin", a.Addr(), "--alive")
	a.Close()
	ask(exitFailed, "no answer", "--admin", a.Addr())
	ask(exitUsage, "HOST:PORT", "--admin", "nowhere")
	ask(exitUsage, "--admin")
}
