package relay

import "testing"

func TestTidyingWaitsForCalm(t *testing.T) {
	var c calm
	for i, step := range []struct {
		opened int64
		want   bool
	}{
		{0, false}, {400, false}, {400, false}, // not worth it
		{600, false}, {900, false}, {900, true}, {900, false}, // once, when no more come
		{1399, false}, {1399, false}, {1400, false}, {1400, true},
	} {
		if got := c.tidy(step.opened); got != step.want {
			t.Errorf("step %d, %d sessions: %v", i, step.opened, got)
		}
	}
}
