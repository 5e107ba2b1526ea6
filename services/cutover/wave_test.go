package cutover

import "testing"

// R7: a process that has the id and another state directory is another edge, whatever it says: neither does its report
// count, nor does it cast doubt on the registered one's.
func TestReportsOfAnotherDirectoryDoNotCount(t *testing.T) {
	r := fencedRig(t, 1)
	other := r.report("b1")
	other.Directory, other.Incarnation = directoryOf("b9"), "p-other"
	r.nothing(r.hear(other, r.report("b2"), r.report("h1"), r.report("h2")), "the registered b1 was not heard")
	mine := r.report("b1")
	mine.Fences[0].Drained = false
	r.nothing(r.hear(mine, other), "b1 has not drained")
	r.only(r.hear(r.report("b1")))
}
