package origin

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// step is one input of the machine and what is believed after it.
type step struct {
	at    time.Duration
	what  string // fail, answer, up, down (probes), or "" for none
	state string // of Status
	left  time.Duration
}

func (o *Origin) step(s step) {
	switch s.what {
	case "fail":
		o.Failed(s.at, "refused")
	case "answer":
		o.Answered(s.at)
	case "up":
		o.Probed(s.at, "")
	case "down":
		o.Probed(s.at, "timeout")
	}
}

func TestHealth(t *testing.T) {
	const sec = time.Second
	fails := func(at time.Duration, end string, left time.Duration) []step {
		return []step{{at, "fail", "healthy", 0}, {at, "fail", "healthy", 0}, {at, "fail", end, left}}
	}
	for name, steps := range map[string][]step{
		"three failures in a row eject": fails(sec, "ejected", 5*sec),
		"an answer in between does not": {
			{1, "fail", "healthy", 0}, {2, "fail", "healthy", 0}, {3, "answer", "healthy", 0}, {4, "fail", "healthy", 0}, {5, "fail", "healthy", 0},
			{6, "fail", "ejected", 5 * sec},
		},
		"three in more than the window do not": {
			{sec, "fail", "healthy", 0}, {20 * sec, "fail", "healthy", 0}, {40 * sec, "fail", "healthy", 0}, {45 * sec, "fail", "ejected", 5 * sec},
		},
		"a failure on trial doubles the time, up to a minute": append(fails(0, "ejected", 5*sec),
			step{5 * sec, "", "trial", 0}, step{6 * sec, "fail", "ejected", 10 * sec}, step{20 * sec, "fail", "ejected", 20 * sec},
			step{41 * sec, "fail", "ejected", 40 * sec}, step{90 * sec, "fail", "ejected", 60 * sec}, step{211 * sec, "fail", "ejected", 5 * sec}),
		"failures of what began before do not lengthen it": append(fails(0, "ejected", 5*sec),
			step{sec, "fail", "ejected", 4 * sec}, step{4 * sec, "fail", "ejected", sec}, step{5 * sec, "", "trial", 0}),
		"an answer on trial ends it": append(fails(0, "ejected", 5*sec), step{6 * sec, "answer", "healthy", 0},
			step{7 * sec, "fail", "healthy", 0}, step{8 * sec, "fail", "healthy", 0}, step{9 * sec, "fail", "ejected", 10 * sec}),
		"an answer ends an ejection": append(fails(0, "ejected", 5*sec), step{sec, "answer", "healthy", 0}, step{2 * sec, "fail", "healthy", 0}),
		"a calm minute is forgiven": append(append(fails(0, "ejected", 5*sec), step{6 * sec, "answer", "healthy", 0}),
			fails(70*sec, "ejected", 5*sec)...),
		"probes take it down after three and up after two": {
			{1, "down", "healthy", 0}, {2, "down", "healthy", 0}, {3, "up", "healthy", 0}, {4, "down", "healthy", 0}, {5, "down", "healthy", 0},
			{6, "down", "down", 0}, {7, "up", "down", 0}, {8, "down", "down", 0}, {9, "up", "down", 0}, {10, "up", "healthy", 0},
		},
		"coming up ends an ejection": append(fails(0, "ejected", 5*sec), step{1, "down", "ejected", 5*sec - 1}, step{2, "down", "ejected", 5*sec - 2},
			step{3, "down", "down", 0}, step{4, "up", "down", 0}, step{5, "up", "healthy", 0}),
		"probes that were good all the time do not": append(fails(0, "ejected", 5*sec), step{1, "up", "ejected", 5*sec - 1}, step{2, "up", "ejected", 5*sec - 2}),
		"an answer does not bring up what is down":  {{1, "down", "healthy", 0}, {2, "down", "healthy", 0}, {3, "down", "down", 0}, {4, "answer", "down", 0}},
	} {
		o := newOrigin("a:1", Check{Probe: "tcp", Rise: 2, Fall: 3}, &load{})
		for i, s := range steps {
			o.step(s)
			if st := o.status(s.at); st.State != s.state || st.Ejected != s.left.Seconds() {
				t.Errorf("%s: step %d: %s for %vs, want %s for %s", name, i, st.State, st.Ejected, s.state, s.left)
			}
		}
	}
}

// A client that leaves early says nothing about the origin; one that waited in vain does.
func TestAbandoned(t *testing.T) {
	o := newOrigin("a:1", Check{}, &load{})
	for range 10 {
		o.Abandoned(time.Second, 0, TooLong)
	}
	if st := o.status(0); st.Failures != 0 {
		t.Errorf("%+v", st)
	}
	var ejected time.Duration
	for range failuresToEject {
		ejected = o.Abandoned(10*time.Second, 7*time.Second, TooLong)
	}
	if ejected != firstEjection || !strings.Contains(o.status(0).Error, "no answer for 3s") {
		t.Errorf("%s %+v", ejected, o.status(0))
	}
}

// An origin that has answered others since it got a handshake is only slow with that one; one that answers nobody is ejected.
func TestSlow(t *testing.T) {
	o := newOrigin("a:1", Check{}, &load{})
	for range 2 * failuresToEject {
		o.Answered(5 * time.Second)
		o.Slow(12*time.Second, 2*time.Second, "no answer")
		o.Abandoned(12*time.Second, 2*time.Second, TooLong)
	}
	if st := o.status(12 * time.Second); st.State != "healthy" || st.Failures != 0 || st.Failed != 4*failuresToEject || st.Error == "" {
		t.Errorf("%+v", st)
	}
	var ejected time.Duration
	for range failuresToEject {
		ejected = o.Slow(15*time.Second, 5*time.Second, "no answer")
	}
	if ejected != firstEjection {
		t.Errorf("%s %+v", ejected, o.status(15*time.Second))
	}
}

func TestErrorsAreBounded(t *testing.T) {
	o := newOrigin("a:1", Check{}, &load{})
	o.Failed(time.Second, strings.Repeat("错", 1000))
	if st := o.status(3 * time.Second); len(st.Error) > maxError+len("…") || strings.ContainsRune(st.Error, '\ufffd') || st.ErrorAge != 2 {
		t.Errorf("%d bytes: %+v", len(st.Error), st)
	}
}

func (s Status) String() string {
	return fmt.Sprintf("%s %s %d", s.Address, s.State, s.Sessions)
}
