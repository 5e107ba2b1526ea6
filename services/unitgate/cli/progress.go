package cli

import (
	"fmt"
	"io"
	"os"
	"time"
)

const (
	longRead      = 100_000                // records from which on progress is shown
	progressEvery = 200 * time.Millisecond //
	lookEvery     = 4096                   // records between two looks at the clock
)

// screen is w if it is a terminal, else nil.
func screen(w io.Writer) io.Writer {
	if f, ok := w.(*os.File); ok && terminal(f) {
		return w
	}
	return nil
}

// meter tells people how far a long reading is, on standard error if that is a terminal; else it is nil. The line is gone
// when the reading ends.
func (c *cli) meter(what string) func(done, total uint64) {
	if c.tty == nil {
		return nil
	}
	return newMeter(c.tty, what, time.Now)
}

func newMeter(w io.Writer, what string, now func() time.Time) func(done, total uint64) {
	var last time.Time
	shown := false
	return func(done, total uint64) {
		if total < longRead || done%lookEvery != 0 && done != total {
			return
		}
		if done == total {
			if shown {
				fmt.Fprint(w, "\r\x1b[K")
			}
			shown = false
			return
		}
		if t := now(); t.Sub(last) >= progressEvery {
			last, shown = t, true
			fmt.Fprintf(w, "\r\x1b[K%s: %d of %d (%d%%)", what, done, total, done*100/total)
		}
	}
}
