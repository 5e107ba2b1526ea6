package agent

import (
	"crypto/ed25519"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// Whoever may publish where the beacons come, but is not in office, can neither raise the head that an edge shows, nor keep
// it from what is missing, nor hide that nobody vouches: with beacons of his own, and with the office's old ones.
func TestForgedBeacons(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		l := newLabOn(t, srv)
		l.admit()
		hush := l.vouch()
		e := l.start(t.TempDir())
		e.view("the join", admitting)
		s := l.history(func(*world) {})
		l.report("the join", at(s.Seq))
		time.Sleep(10 * time.Second)
		old := l.beacon(s, 0)
		l.speak(old)
		hush()

		mallory := ed25519.NewKeyFromSeed([]byte(strings.Repeat("m", ed25519.SeedSize)))
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for tick := time.NewTicker(300 * time.Millisecond); ; {
				at := l.history(func(*world) {})
				behind, beyond := at.Clone(), at.Clone()
				behind.Seq, beyond.Seq = at.Seq-1, 1<<60
				for _, lie := range []*events.State{at, behind, beyond} {
					l.speak(l.beacon(lie, 0).Signed(mallory))
				}
				l.speak(old)
				select {
				case <-stop:
					tick.Stop()
					return
				case <-tick.C:
				}
			}
		}()
		time.Sleep(2 * time.Minute)
		if st := e.r.Status(t.Context()); st.Head != s.Seq || st.Applied != s.Seq || st.Staleness < 120 || st.Broken != "" {
			t.Errorf("after two minutes without a controller: %+v", st)
		}
		l.logged("a beacon is not from the office")

		js, _ := l.stream()
		st, err := js.Stream(t.Context(), "UNITGATE_demo")
		if err != nil {
			t.Fatal(err)
		}
		for name := range st.ConsumerNames(t.Context()).Name() {
			if _, err := st.PauseConsumer(t.Context(), name, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		news := l.joins(1, 3)
		appended := time.Now()
		l.speak(l.beacon(news, 0))
		l.report("the news", at(news.Seq))
		if took := time.Since(appended); took > 2*time.Second {
			t.Errorf("what was missing came after %v", took)
		}
		l.vouch()
		time.Sleep(3 * time.Second)
		if st := e.r.Status(t.Context()); st.Head != news.Seq || st.Staleness > 2 {
			t.Errorf("vouched for again: %+v", st)
		}
		close(stop)
		<-ended
		e.stop()
	})
}
