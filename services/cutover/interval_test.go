package cutover

import (
	"testing"
	"time"

	"github.com/unitgate/unitgate/events"
)

// Between a commit and the next fence the driver lets the cutover's interval pass, in full again after a resumption;
// before the first wave and after the last one there is nothing to wait for.
func TestInterval(t *testing.T) {
	d := NewDriver(DriverConfig{})
	c := &events.Cutover{ID: "c1", Interval: events.Duration(time.Minute), Waves: make([]events.Wave, 3)}
	at := func(now time.Duration, next int) bool {
		d.now = now
		return d.resting(c, next)
	}
	for _, step := range []struct {
		now  time.Duration
		next int
		want bool
	}{
		{0, 0, false},
		{10 * time.Second, 1, true}, {69 * time.Second, 1, true}, {70 * time.Second, 1, false},
		{80 * time.Second, 2, true}, {140 * time.Second, 2, false},
		{141 * time.Second, 3, false},
	} {
		if got := at(step.now, step.next); got != step.want {
			t.Errorf("at %s before wave %d: resting %v", step.now, step.next, got)
		}
	}
	delete(d.rests, "c1") // as a pause does
	if !at(150*time.Second, 2) {
		t.Error("a resumption does not begin the interval anew")
	}
	c.Interval = 0
	if at(151*time.Second, 1) {
		t.Error("resting without an interval")
	}
}
