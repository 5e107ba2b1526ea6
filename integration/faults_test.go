package integration_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// faultsVariable chooses how much of the matrix is run: all of it, or for a duration as many cells as fit, in an order
// that seedVariable fixes. Without it a few cells are run with fewer guests.
const faultsVariable = "UNITGATE_FAULTS"

// What is struck, how, and when.
const (
	theDriver, theLeader, theBoth = "driver", "journal's leader", "driver and leader"
	losingEdge, gainingEdge       = "losing edge", "gaining edge"

	killed  = "killed"     // SIGKILL, and started again after a while
	stopped = "stopped"    // SIGSTOP, and SIGCONT after a while
	gone    = "stays away" // SIGKILL, and started again only when the cutover has ended, or been paused for it

	outlasts = "outlasts its lease" // SIGSTOP, until the kernel's timer ends it (R12); and started again

	beforeFence  = "before the fence"
	atFence      = "fenced"
	draining     = "draining"
	betweenWaves = "between waves"
	committing   = "committing"
	committed    = "committed" // the last wave
)

// cell is one entry of the matrix.
type cell struct{ Target, Fault, Phase string }

func (c cell) String() string { return c.Target + " " + c.Fault + ", " + c.Phase }

// hits says whether an edge, or a part that is no edge, is struck.
func (c cell) hits(target string) bool {
	return c.Target == target || c.Target == theBoth && (target == theDriver || target == theLeader)
}

// away is how long what was struck stays so: longer than it takes the others to do without it.
func (c cell) away(s scale) time.Duration {
	switch {
	case c.Fault == gone, c.Fault == outlasts:
		return 0 // it is over when something has happened
	case c.hits(theLeader) && c.Fault == stopped:
		return 10 * time.Second // elections take 3 to 7
	case c.hits(theLeader):
		return 5 * time.Second
	case c.hits(theDriver):
		return s.office
	case c.Fault == stopped:
		return s.still
	}
	return s.restart
}

// scale is how large and how slow everything is.
type scale struct {
	guests   int
	every    time.Duration // each guest says something
	drain    time.Duration // of a wave
	interval time.Duration // between waves
	still    time.Duration // for which an edge is stopped
	restart  time.Duration // before a killed edge is started again
	office   time.Duration // for which a driver is struck
}

func full() scale {
	return scale{guests: 2000, every: 2 * time.Second, drain: time.Second, interval: 1500 * time.Millisecond,
		still: 5 * time.Second, restart: time.Second, office: 6 * time.Second /* it outlives its holder by 3.5 */}
}

// small is for the few cells that are run in any case.
func small() scale {
	return scale{guests: 200, every: 250 * time.Millisecond, drain: 500 * time.Millisecond, interval: 100 * time.Millisecond,
		still: time.Second, restart: 100 * time.Millisecond, office: time.Second}
}

// longestLease is more than the policy's lease, which is how long a process that stands still may take to end.
const longestLease = 40 * time.Second

func matrix(exclusive bool) (cells []cell) {
	for _, target := range []string{theDriver, theLeader, theBoth, losingEdge, gainingEdge} {
		for _, fault := range []string{killed, stopped} {
			for _, phase := range []string{beforeFence, atFence, draining, betweenWaves, committing, committed} {
				cells = append(cells, cell{target, fault, phase})
			}
		}
	}
	if exclusive {
		cells = append(cells, cell{losingEdge, outlasts, atFence}, cell{losingEdge, outlasts, draining}, cell{gainingEdge, outlasts, atFence})
	}
	return append(cells, cell{losingEdge, gone, atFence}, cell{losingEdge, gone, draining}, cell{gainingEdge, gone, atFence})
}

// few are the cells that are run in any case.
func few(exclusive bool) []cell {
	if exclusive {
		return []cell{{theDriver, killed, draining}}
	}
	return []cell{{losingEdge, killed, draining}}
}

// TestFaultsAvailable strikes a system of separate processes in the middle of cutovers, under guests that chat all the
// time, and expects what faultBed.run says.
func TestFaultsAvailable(t *testing.T) {
	harness.Long(t, "two hundred guests and three servers take long to start")
	runFaults(t, "available")
}

// TestFaultsExclusive is the same where an edge serves by a lease only. The lease outlives what is struck, unless the fault
// is to outlast it: so who stays keeps his connection here, too.
func TestFaultsExclusive(t *testing.T) {
	harness.Long(t, "a new journal grants leases only after the length of one")
	runFaults(t, "exclusive")
}

func runFaults(t *testing.T, ownership string) {
	cells, budget, size := chosen(t, ownership == "exclusive")
	began := time.Now()
	b := startFaultBed(t, ownership, size)
	t.Logf("%d guests chat %v after the start", size.guests, time.Since(began).Round(10*time.Millisecond))
	began = time.Now()
	stop := b.devices(t)
	var rows []row
	defer func() { t.Log(table(rows)) }()
	for _, c := range cells {
		if t.Failed() || budget > 0 && time.Since(began) > budget {
			break
		}
		rows = append(rows, b.run(t, c))
	}
	if visits := stop(); visits == 0 {
		t.Error("no further device was ever let in, so nothing was tried")
	}
	b.settle(t)
	for _, g := range b.town.guests {
		if g.problem != nil {
			t.Error(g.problem)
		}
	}
}

// chosen are the cells to run, for how long at most (0: all of them), and how large.
func chosen(t *testing.T, exclusive bool) (cells []cell, budget time.Duration, size scale) {
	t.Helper()
	switch text := os.Getenv(faultsVariable); text {
	case "":
		return few(exclusive), 0, small()
	case "all":
		return matrix(exclusive), 0, full()
	default:
		budget, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s=%s: want all, or a duration", faultsVariable, text)
		}
		seed := number(t, seedVariable, uint64(time.Now().UnixNano()))
		t.Logf("to repeat: %s=%s %s=%d", faultsVariable, text, seedVariable, seed)
		cells = matrix(exclusive)
		rand.New(rand.NewPCG(seed, 0)).Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
		return cells, budget, full()
	}
}

// row is what came of a cell. Times count from the fault.
type row struct {
	cell
	Outcome   string
	Completed time.Duration // the cutover
	TakeOver  time.Duration `json:",omitzero"` // a driver took office
	Served    time.Duration // every guest was seen served where it belongs
	Untouched int           // guests that did not move, on the connection that they had
	Reset     int           // guests whose edge was killed
	Again     int           // evictions by a unit that had evicted the guest before, and let it in again
	Blackout  time.Duration // the longest of a guest that moved, off an edge that lived
}

func table(rows []row) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\ntarget\tfault\tphase\toutcome\tcompleted\ttaken over\tall served\tuntouched\tcut off\tevicted again\tlongest blackout")
	seconds := func(d time.Duration) string {
		if d == 0 {
			return "-"
		}
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", r.Target, r.Fault, r.Phase, r.Outcome,
			seconds(r.Completed), seconds(r.TakeOver), seconds(r.Served), r.Untouched, r.Reset, r.Again, seconds(r.Blackout))
	}
	w.Flush()
	for _, r := range rows {
		line, _ := json.Marshal(r)
		text.Write(append(line, '\n'))
	}
	return text.String()
}

// converges bounds what everything needs after a fault; an edge that stays away is given up after a minute.
const converges = 150 * time.Second

// takesOver is how long the office may stand without a driver, as long as the journal has its quorum.
const takesOver = 5 * time.Second

// run strikes once in the middle of a cutover of two waves, and checks: the cutover completes, if need be after a pause
// with a reason and a resumption; no user is served by two units at a moment; who does not move keeps his connection,
// unless his edge was killed; who moves is moved once; all are served where they belong.
func (b *faultBed) run(t *testing.T, c cell) row {
	t.Helper()
	b.ready(t)
	losing, gaining := b.owner, b.other(b.owner)
	before, overlaps := b.stays(), len(b.seen.Overlaps())
	id := b.propose(t, gaining)
	var started chan error
	if c.Phase != beforeFence {
		b.order(t, "start", id)
		b.awaitPhase(t, c.Phase, id, losing)
	}
	lag := measureLag()
	struck := time.Now()
	heal, off := b.strike(t, c, losing, gaining)
	defer heal()
	if c.Phase == beforeFence {
		started = make(chan error, 1)
		go func() { started <- b.ask("start", id) }()
	}
	r := row{cell: c, Outcome: "completed"}
	if c.Fault == gone {
		b.await(t, converges, c.String()+": a pause, or the end", func() bool { return b.newest(id).seq != 0 })
	} else {
		time.Sleep(c.away(b.scale)) // the length of the fault
	}
	heal()
	if started != nil {
		if err := <-started; err != nil {
			t.Fatalf("%v: start: %v", c, err)
		}
	}
	end := b.complete(t, c, id, &r)
	b.owner = gaining
	since := b.stays()
	b.awaitServed(t, converges, since, b.home)
	r.Completed, r.Served = end.at.Sub(struck), time.Since(struck)
	if at, ok := b.tookOffice(struck); ok {
		r.TakeOver = at.Sub(struck)
	}
	if late := lag(); c.Target == theDriver && (r.TakeOver == 0 || r.TakeOver > takesOver+2*late) {
		t.Errorf("%v: the office was taken over after %v (this machine was late by up to %v)", c, r.TakeOver, late)
	}
	for _, overlap := range b.seen.Overlaps()[overlaps:] {
		t.Errorf("%v: %s", c, overlap)
	}
	b.checkGuests(t, &r, before, off)
	t.Logf("%v: %s after %v", c, r.Outcome, r.Completed.Round(10*time.Millisecond))
	return r
}

// complete follows the cutover to its end, and resumes it when it has been paused.
func (b *faultBed) complete(t *testing.T, c cell, id string, r *row) fact {
	t.Helper()
	for {
		var f fact
		b.await(t, converges, c.String()+": the cutover's end", func() bool {
			f = b.newest(id)
			return f.kind == "CutoverCompleted" || f.kind == "CutoverAborted" || f.kind == "CutoverPaused"
		})
		switch f.kind {
		case "CutoverCompleted":
			return f
		case "CutoverAborted":
			t.Fatalf("%v: aborted, which nobody asked for: %+v", c, f.Why)
		}
		if f.Why.Code == "" || f.Why.Message == "" {
			t.Errorf("%v: paused without a reason", c)
		}
		r.Outcome = "paused (" + f.Why.Code + "), resumed, " + "completed"
		b.order(t, "resume", id)
		b.await(t, converges, c.String()+": the resumption", func() bool { return b.newest(id).seq > f.seq })
	}
}

// checkGuests holds each guest's story against what may have happened to it; off are the addresses of killed edges.
func (b *faultBed) checkGuests(t *testing.T, r *row, before []stay, off []string) {
	t.Helper()
	for i, g := range b.town.guests {
		g.mu.Lock()
		chats := g.chats[before[i].chats-1:]
		g.mu.Unlock()
		cut := slices.ContainsFunc(chats, func(c *chat) bool { return slices.Contains(off, c.edge) })
		switch {
		case !g.moves && cut:
			r.Reset++
		case !g.moves && len(chats) > 1:
			t.Errorf("%v: %s does not move, and lost its connection to %s: %v", r.cell, g.id, chats[0].edge, chats[0].end)
		case !g.moves:
			r.Untouched++
			b.sameOrigin(t, r.cell, g, chats[0])
		case !cut:
			b.checkMove(t, r, g, chats)
		}
	}
}

// sameOrigin expects a chat at its origin, on the connection on which it came there.
func (b *faultBed) sameOrigin(t *testing.T, c cell, g *guest, one *chat) {
	t.Helper()
	sessions := b.seen.Sessions(g.id)
	if last := sessions[len(sessions)-1]; last.Header.Get(chatHeader) != one.name || last.Ended() != nil {
		t.Errorf("%v: %s does not move, and its origin has the session %s (%v) instead of %s", c, g.id, last.Header.Get(chatHeader), last.Ended(), one.name)
	}
}

// checkMove expects a guest that moved to have been sent once, or there, back and there again where the cutover paused. It
// may have been evicted more than once on the way out: by an edge that knew of the fence, and again by the unit's other one,
// which let it in because it did not know yet. Never is it let in by a unit that sends it back.
func (b *faultBed) checkMove(t *testing.T, r *row, g *guest, chats []*chat) {
	t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	moves := 0
	for i, one := range chats[1:] {
		was := chats[i]
		if !closedWith(was.end, 1012, "moved to "+b.other(was.unit)) {
			t.Errorf("%v: %s was on %s, which ended with %v", r.cell, g.id, was.edge, was.end)
		}
		switch {
		case was.unit != one.unit:
			moves++
		case was.edge != one.edge, r.Outcome != "completed": // or unfenced by the pause
			r.Again++
		default:
			t.Errorf("%v: %s was evicted by %s and let in by it again", r.cell, g.id, was.edge)
		}
		r.Blackout = max(r.Blackout, one.welcomed.Sub(was.ended))
	}
	if moves == 0 || r.Outcome == "completed" && moves != 1 {
		t.Errorf("%v: %s changed its unit %d times", r.cell, g.id, moves)
	}
}

// measureLag watches how late this process is woken: what a bound on real time has to grant a machine that does other
// things as well.
func measureLag() (worst func() time.Duration) {
	stop, result := make(chan struct{}), make(chan time.Duration)
	go func() {
		var most time.Duration
		for {
			began := time.Now()
			select {
			case <-stop:
				result <- most
				return
			case <-time.After(10 * time.Millisecond):
				most = max(most, time.Since(began)-10*time.Millisecond)
			}
		}
	}()
	return func() time.Duration { close(stop); return <-result }
}
