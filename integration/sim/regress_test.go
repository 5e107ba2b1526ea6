package sim

import "testing"

// TestSeedsThatFailed plays the seeds that once found something, each with what that was. Later changes of the simulation
// give a seed another story; what they found has a test of its own where it was mended.
func TestSeedsThatFailed(t *testing.T) {
	for _, f := range []struct {
		seed uint64
		what string
	}{
		{4646, "R1: a driver that had given its office back was still in office until that was answered"},
		{2021, "the same"},
	} {
		for _, bug := range Run(f.seed, Options{}).Bugs {
			t.Errorf("seed %d (%s): %s", f.seed, f.what, bug)
		}
	}
}
