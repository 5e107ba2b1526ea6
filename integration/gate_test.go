package integration_test

import (
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// returner connects a user to an edge of unbj, and after an eviction to one of center, at once and as often as it takes.
type returner struct {
	d   *harness.Dev
	id  string
	all *sync.WaitGroup
}

func (r returner) run(t *testing.T, first *harness.Client) {
	r.all.Go(func() {
		client := first
		for {
			if _, err := client.Read(time.Minute); err != nil {
				client.Drop()
				if !closedWith(err, 1012, "moved to center") {
					return // to unbj, or the test ends
				}
				if client = r.back(t); client == nil {
					return
				}
			}
		}
	})
}

// back connects the user to center, by way of unbj if the edge there has not heard of the fence yet.
func (r returner) back(t *testing.T) *harness.Client {
	addr := r.d.Edges(t, "center")[0]
	for range 5 {
		next, answer, err := harness.Dial(harness.Handshake{Addr: addr, Host: r.d.Ready.Domain, RouterID: r.id})
		if next != nil {
			return next
		}
		to := &url.URL{}
		if err == nil {
			to, err = answer.Location()
		}
		if err != nil {
			t.Errorf("%s does not come back: %v", r.id, err)
			return nil
		}
		addr = to.Host
	}
	t.Errorf("%s is sent to and fro", r.id)
	return nil
}

// TestGateAndReport moves 20 users, of whom some come back and the others do not, past 30 whom it does not concern: a gate
// that is not passed pauses, or goes back by itself, and the report says what became of everybody.
func TestGateAndReport(t *testing.T) {
	for name, c := range map[string]struct {
		back, wanted int // of 20 users; percent
		action       string
		state        string
	}{
		"passed":      {18, 90, "pause", "completed"},
		"paused":      {10, 90, "pause", "paused"},
		"rolled back": {10, 90, "rollback", "rolledback"},
	} {
		t.Run(name, func(t *testing.T) {
			d := harness.StartDev(t)
			var all sync.WaitGroup
			edges := d.Edges(t, "unbj")
			for i := range 20 {
				hs := harness.Handshake{Addr: edges[i%2], Host: d.Ready.Domain, RouterID: strconv.Itoa(6000 + i)}
				if client := harness.MustDial(t, hs); i < c.back {
					returner{d, hs.RouterID, &all}.run(t, client)
				} else {
					all.Go(func() { drain(client) })
				}
			}
			for i := range 30 {
				client := harness.MustDial(t, harness.Handshake{Addr: edges[i%2], Host: d.Ready.Domain, RouterID: strconv.Itoa(9000 + i)})
				all.Go(func() { drain(client) })
			}
			t.Cleanup(func() { d.Stop(t); all.Wait() })

			preview := d.Cutover(t, append(append([]string{"preview"}, toCenter...), "--waves", "1",
				"--gate", "landed="+strconv.Itoa(c.wanted)+",origin-errors=5,window=2s,action="+c.action)...)
			d.Run(t, "cutover", "start", preview.ID)
			cut := d.AwaitCutover(t, preview.ID, within, c.state, func(cut harness.Cutover) bool { return cut.State == c.state })
			if c.state != "completed" && (cut.Reason == nil || cut.Reason.Code != "gate" || !strings.Contains(cut.Reason.Message, strconv.Itoa(c.back)+" of 20 evicted sessions are back")) {
				t.Errorf("reason: %+v", cut.Reason)
			}
			if c.state == "paused" {
				d.Cutover(t, "resume", preview.ID) // an operator has looked
			}
			cut = d.AwaitCutover(t, preview.ID, 2*within, "reported", func(cut harness.Cutover) bool { return cut.Report != nil })
			r := cut.Report
			if r.Evicted != 20 || r.Compared != 20 || r.NotSeen != 20-c.back || r.Blackout.Samples != c.back || len(r.Silent) > 0 || cut.Landed != c.back {
				t.Errorf("report: %+v", r)
			}
			if r.Blackout.P50+r.Blackout.Within <= 0 || r.Blackout.P99 < r.Blackout.P50 || r.Blackout.P99 > 20_000 {
				t.Errorf("blackout: %+v", r.Blackout)
			}
			if u := r.Untouched; !u.Same || u.Before != 30 || u.After != 30 || u.Compared != 30 {
				t.Errorf("untouched: %+v", u)
			}
			t.Logf("%s: %+v", name, *r)
			if c.state == "rolledback" {
				back := d.AwaitCutover(t, "c2", within, "completed by itself", func(cut harness.Cutover) bool { return cut.State == "completed" })
				if back.RollbackOf != "c1" || d.Route(t, "6000").Unit != "unbj" {
					t.Errorf("the way back: %+v", back)
				}
			}
		})
	}
}

// drain reads until the connection ends.
func drain(client *harness.Client) {
	defer client.Drop()
	for {
		if _, err := client.Read(time.Minute); err != nil {
			return
		}
	}
}
