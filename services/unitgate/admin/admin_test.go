package admin_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/services/unitgate/admin"
)

func TestListener(t *testing.T) {
	ready := make(chan error, 2)
	log := slog.New(slog.DiscardHandler)
	a, err := admin.Listen("127.0.0.1:0", admin.Source{
		Ready:  func() error { return <-ready },
		Status: func(context.Context) any { return map[string]int{"applied": 7} },
	}, log)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	get := func(path string) (int, string) {
		t.Helper()
		resp, err := http.Get("http://" + a.Addr() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	ready <- errors.New("no journal yet")
	ready <- nil
	for _, want := range []struct {
		path string
		code int
		text string
	}{{"/healthz", 200, "ok"}, {"/readyz", 503, "no journal yet"}, {"/readyz", 200, "ok"}, {"/status", 200, `"applied": 7`}, {"/", 404, ""}} {
		if code, text := get(want.path); code != want.code || !strings.Contains(text, want.text) {
			t.Errorf("%s: %d %q", want.path, code, text)
		}
	}
	if _, err := admin.Listen(a.Addr(), admin.Source{}, log); err == nil || !strings.Contains(err.Error(), "--admin") {
		t.Errorf("a busy port: %v", err)
	}
	none, err := admin.Listen("", admin.Source{}, log)
	if none != nil || err != nil {
		t.Errorf("no listener: %v, %v", none, err)
	}
	none.Close()
}
