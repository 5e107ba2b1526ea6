package journal_test

import (
	"slices"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// Readers that lost the bus together come back one after another, and none of them late.
func TestReadersComeBackSpread(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		writer := newStream(t, srv.JetStream(srv.Uncut()))
		c := journaltest.Fill(t, writer, journal.Cursor{}, 1, 1)
		const readers = 40
		var followers []*journaltest.Follower
		for range readers {
			j, err := journal.Open(t.Context(), srv.JetStream(), "shop")
			if err != nil {
				t.Fatal(err)
			}
			followers = append(followers, journaltest.Follow(t, j, c))
		}
		time.Sleep(time.Second)
		srv.Cut()
		journaltest.Fill(t, writer, c, 2, 2)
		time.Sleep(time.Minute)
		srv.Heal()
		back := time.Now()
		times := make(chan time.Duration, readers)
		for _, f := range followers {
			go func() { f.Next(); times <- time.Since(back) }()
		}
		var all []time.Duration
		for range readers {
			all = append(all, <-times)
		}
		slices.Sort(all)
		if first, last := all[0], all[readers-1]; last-first < 500*time.Millisecond || last > 3*time.Second {
			t.Errorf("they came back from %v to %v", first, last)
		}
		for i := range readers / 2 {
			if window := all[i+readers/2] - all[i]; window < 200*time.Millisecond {
				t.Errorf("half of them came within %v", window)
			}
		}
	})
}
