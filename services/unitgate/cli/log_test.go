package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

// `log --follow --since HEAD+1` shows nothing of what is there, and the next event first; what is beyond that has not
// happened yet.
func TestLogFromTheNextEventOn(t *testing.T) {
	j := journal.NewMemory("shop")
	end := journaltest.Fill(t, j, journal.Cursor{}, 1, 5)
	r := reader.New(j, nil, slog.New(slog.DiscardHandler))
	var out bytes.Buffer
	l := &logCmd{cli: &cli{out: &out, err: io.Discard, format: "json"}, follow: true}
	if _, err := l.past(t.Context(), r, reader.Point{Seq: 7}); !errors.Is(err, reader.ErrBeyondHead) {
		t.Errorf("from two after the head on: %v", err)
	}
	last, err := l.past(t.Context(), r, reader.Point{Seq: 6})
	if err != nil || last != end || out.Len() > 0 {
		t.Fatalf("it follows from %+v, want %+v: %v, and shows %s", last, end, err, &out)
	}
	journaltest.Fill(t, j, end, 6, 7)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	l.out = writer(func(line string) {
		out.WriteString(line)
		if strings.Count(out.String(), "\n") == 2 {
			stop()
		}
	})
	if err := l.following(ctx, r, last); err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(strings.TrimSpace(out.String()), "\n") {
		if want := fmt.Sprintf(`{"seq":%d,`, 6+i); !strings.HasPrefix(line, want) {
			t.Errorf("line %d is %s, want %s…", i, line, want)
		}
	}
}

type writer func(string)

func (w writer) Write(b []byte) (int, error) {
	w(string(b))
	return len(b), nil
}
