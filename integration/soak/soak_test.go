package soak_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// size is how much happens at once.
type size struct {
	length   time.Duration
	standing int // sessions
	rate     int // visits a second
	slow     int // slow readers
	each     time.Duration
}

func sizeOf(t *testing.T) size {
	text := os.Getenv("UNITGATE_SOAK")
	if text == "" {
		return size{length: 8 * time.Second, standing: 300, rate: 50, slow: 5, each: time.Second}
	}
	length, err := time.ParseDuration(text)
	if err != nil || length < 10*time.Second {
		t.Fatalf("UNITGATE_SOAK=%s: want a duration of 10s or more", text)
	}
	return size{length: length, standing: 2000, rate: 200, slow: 20, each: 3 * time.Second}
}

// TestSoak: two units with an edge each. Sessions stand and talk, others come and end in every way (Close, FIN, resets of
// both sides), some read slowly, a tenth of the slots goes to and fro by cutovers, and users are evicted by hand. Who does
// not move is never disconnected; in the end no session, no descriptor and no goroutine is left, and memory did not grow.
func TestSoak(t *testing.T) {
	sz := sizeOf(t)
	origins := [2]*origin{startOrigin(t), startOrigin(t)}
	ports := [2]string{fmt.Sprint("127.0.0.1:", harness.FreePort(t)), fmt.Sprint("127.0.0.1:", harness.FreePort(t))}
	units := []harness.Unit{
		{ID: "a", Range: fmt.Sprintf("0-%d", firstB-1), Origins: []string{origins[0].addr}, Location: ports[0]},
		{ID: "b", Range: fmt.Sprintf("%d-%d", firstB, slots-1), Origins: []string{origins[1].addr}, Location: ports[1]},
	}
	c := &crowd{t: t, domain: "soak.example.com", edges: ports}
	sys := harness.StartSystem(t, harness.Config{Namespace: "soak", Domain: c.domain, Units: units})
	edges := []*watch{
		watchEdge(t, sys.StartEdge(t, "a-1", units[0], ports[0], "--pprof")),
		watchEdge(t, sys.StartEdge(t, "b-1", units[1], ports[1], "--pprof")),
	}
	// What every process takes once, such as pools and descriptors of the runtime, comes first.
	for i := range 64 {
		if err := c.visit([]int{17, 9017}[i%2], i/2); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range edges {
		e.await(t, "it is at rest", func(s sample) bool { return s.sessions == 0 })
		e.begin = e.now(t)
	}

	ctx, end := context.WithTimeout(t.Context(), sz.length)
	defer end()
	began := time.Now()
	c.start(ctx, sz)
	harness.Eventually(t, time.Minute, "everybody stands", func() bool { return int(c.standing.Load()) == sz.standing })
	cutovers, evicted := 0, 0
	for next := time.Now(); ctx.Err() == nil; next = next.Add(sz.each) {
		border := []int{firstMove, firstB}[cutovers%2]
		cut := sys.Cutover(t, "preview", "--range", fmt.Sprintf("a=0-%d", border-1), "--range", fmt.Sprintf("b=%d-%d", border, slots-1), "--rate", "2000")
		if cut = sys.Cutover(t, "start", cut.ID, "--wait"); cut.State != "completed" {
			t.Fatalf("cutover %s ended as %s: %+v", cut.ID, cut.State, cut.Reason)
		}
		evicted += cut.Evicted
		cutovers++
		sys.Run(t, "evict", "--router-id", strconv.Itoa(firstMove+cutovers%sz.standing/10)).OK(t)
		for _, e := range edges {
			e.samples = append(e.samples, e.now(t))
		}
		select {
		case <-time.After(time.Until(next.Add(sz.each))):
		case <-ctx.Done():
		}
	}
	c.clients.Wait()
	t.Logf("%v: %d sessions stood, %d others came and ended, %d floods were read slowly, %d cutovers evicted %d, users came back %d times",
		time.Since(began).Round(time.Second), sz.standing, c.ended.Load(), c.slowlyRead.Load(), cutovers, evicted, c.moved.Load())
	stood := 0
	for _, e := range edges {
		stood += slices.MaxFunc(e.samples, func(a, b sample) int { return a.sessions - b.sessions }).sessions
	}
	if stood < sz.standing || evicted == 0 || c.moved.Load() == 0 || c.slowlyRead.Load() == 0 {
		t.Error("something that should have happened did not")
	}
	for i, e := range edges {
		e.check(t, os.Getenv("UNITGATE_SOAK") != "")
		if n := origins[i].open.Load(); n != 0 {
			t.Errorf("%d connections to the origin are left", n)
		}
	}
}

// start has everybody begin.
func (c *crowd) start(ctx context.Context, sz size) {
	report := func(f func() error) {
		c.clients.Go(func() {
			if err := f(); err != nil {
				c.t.Error(err)
			}
		})
	}
	for i := range sz.standing {
		user := i * slots / sz.standing
		report(func() error { return c.stand(ctx, user) })
		if i%50 == 49 {
			time.Sleep(20 * time.Millisecond) // 2,500 a second: the visits are the storm
		}
	}
	for i := range sz.slow {
		user := []int{i, slots - 1 - i}[i%2]
		report(func() error { return c.readSlowly(ctx, user) })
	}
	c.clients.Go(func() { c.come(ctx, sz.rate) })
}

// watch is an edge under observation.
type watch struct {
	*harness.EdgeProcess
	admin   string // HOST:PORT
	begin   sample
	samples []sample
}

// sample is what an edge has at a moment.
type sample struct {
	sessions, files, goroutines int
	memory                      int64 // resident, of no file; bytes
}

var adminLine = regexp.MustCompile(`msg="admin listener" addr=(\S+)`)

func watchEdge(t *testing.T, e *harness.EdgeProcess) *watch {
	t.Helper()
	m := adminLine.FindStringSubmatch(e.Stderr.String())
	if m == nil {
		t.Fatalf("no admin listener in %s", e.Stderr)
	}
	return &watch{EdgeProcess: e, admin: m[1]}
}

var (
	sessionsField = regexp.MustCompile(`"sessions":\s*\{([^}]*)\}`)
	numbers       = regexp.MustCompile(`\d+`)
	goroutineLine = regexp.MustCompile(`goroutine profile: total (\d+)`)
	anonLine      = regexp.MustCompile(`RssAnon:\s+(\d+) kB`)
)

func (w *watch) now(t *testing.T) sample {
	t.Helper()
	var s sample
	for _, n := range numbers.FindAllString(sessionsField.FindString(w.get(t, "/status")), -1) {
		s.sessions += atoi(n)
	}
	if m := goroutineLine.FindStringSubmatch(w.get(t, "/debug/pprof/goroutine?debug=1")); m != nil {
		s.goroutines = atoi(m[1])
	}
	http.DefaultClient.CloseIdleConnections() // they are descriptors, too
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID))
	if err != nil {
		t.Fatal(err)
	}
	if m := anonLine.FindStringSubmatch(string(status)); m != nil {
		s.memory = int64(atoi(m[1])) << 10
	}
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", w.PID))
	if err != nil {
		t.Fatal(err)
	}
	s.files = len(files)
	return s
}

func atoi(s string) int { n, _ := strconv.Atoi(s); return n }

func (w *watch) get(t *testing.T, path string) string {
	t.Helper()
	response, err := http.Get("http://" + w.admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v", path, response.Status, err)
	}
	return string(b)
}

func (w *watch) await(t *testing.T, what string, ok func(sample) bool) {
	t.Helper()
	var last sample
	if !harness.Poll(time.Minute, func() bool { last = w.now(t); return ok(last) }) {
		t.Fatalf("edge %s never came to it that %s: %+v at first, %+v now", w.ID, what, w.begin, last)
	}
}

// check: nothing is left, and if it was long enough to tell, memory did not grow.
func (w *watch) check(t *testing.T, long bool) {
	t.Helper()
	w.await(t, "nothing is left", func(s sample) bool {
		return s.sessions == 0 && s.files <= w.begin.files && s.goroutines <= w.begin.goroutines
	})
	third := len(w.samples) / 3
	var text []string
	for _, s := range w.samples {
		text = append(text, fmt.Sprintf("%.1f", float64(s.memory)/(1<<20)))
	}
	t.Logf("edge %s: at first %+v, in the end %+v; MiB meanwhile: %s", w.ID, w.begin, w.now(t), strings.Join(text, " "))
	if !long || third < 3 {
		return
	}
	// The first third is for growing to what the load needs.
	before, after := middle(w.samples[third:2*third]), middle(w.samples[2*third:])
	if after > before+before/20+1<<20 {
		t.Errorf("edge %s: memory grew from %d KiB in the second third to %d KiB in the last", w.ID, before>>10, after>>10)
	}
}

func middle(all []sample) int64 {
	var m []int64
	for _, s := range all {
		m = append(m, s.memory)
	}
	slices.Sort(m)
	return m[len(m)/2]
}
