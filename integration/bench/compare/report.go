//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is all that was measured.
type report struct {
	Date     time.Time         `json:"date"`
	Machine  string            `json:"machine"`
	Versions map[string]string `json:"versions"` // by target
	Settings map[string]any    `json:"settings"`
	Cells    []*cell           `json:"cells"`
	Failures []string          `json:"failures,omitempty"`
	Noise    noise             `json:"noise"`

	rounds int
}

// cell is one metric on one target, over all rounds.
type cell struct {
	Phase  string    `json:"phase"`
	Metric string    `json:"metric"`
	Unit   string    `json:"unit"`
	Target string    `json:"target"`
	Values []float64 `json:"values"` // one for each round that did not fail
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
	// Ratios are unitgate's median divided by this one, and on unitgate's cell there is none. The value is the median of
	// the ratios of single rounds: neighbours in time, on a machine that changes.
	Ratio float64 `json:"ratio,omitempty"`
}

// noise says how undisturbed the machine was, by each measurement.
type noise struct {
	Others  []float64 `json:"others"`  // part of all processors that other processes had
	Stolen  []float64 `json:"stolen"`  // part that the hypervisor gave to others
	LoadAvg []float64 `json:"loadAvg"` // of the minute before the end of a measurement
}

func newReport(o *options) *report {
	return &report{
		Date: time.Now().UTC().Truncate(time.Second), Machine: describeMachine(), Versions: map[string]string{}, rounds: o.rounds,
		Settings: map[string]any{
			"rounds": o.rounds, "duration": o.duration.String(), "settle": o.settle.String(), "threads": o.threads, "idle": o.idle, "crowd": o.crowd, "tlsIdle": o.idleTLS,
			"sessions": o.talking, "slow": o.slow, "slowMB": o.slowMB, "evict": o.evict, "evictBoth": o.evictBoth, "haproxyBufsize": o.bufsize,
		},
	}
}

func describeMachine() string {
	model := runtime.GOARCH
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				model = strings.TrimSpace(value)
				break
			}
		}
	}
	kernel, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		kernel = []byte("?")
	}
	kib, err := field("/proc/meminfo", "MemTotal:", 1)
	if err != nil {
		kib = 0
	}
	return fmt.Sprintf("%d × %s, %d GiB, Linux %s, %s", runtime.NumCPU(), model, (kib+1<<19)>>20, strings.TrimSpace(string(kernel)), runtime.Version())
}

func (r *report) noise(before, after machine) {
	others, stolen := before.foreign(after)
	r.Noise.Others, r.Noise.Stolen = append(r.Noise.Others, others), append(r.Noise.Stolen, stolen)
	r.Noise.LoadAvg = append(r.Noise.LoadAvg, loadAverage())
}

func (r *report) fail(p *phase, target string, round int, err error) {
	r.Failures = append(r.Failures, fmt.Sprintf("round %d, %s on %s: %v", round+1, p.name, target, err))
}

// add takes one round's values.
func (r *report) add(p *phase, target string, v values) {
	for _, m := range p.metrics {
		value, ok := v[m.key]
		if !ok {
			continue
		}
		c := r.cell(p.name, m.key, target)
		if c == nil {
			c = &cell{Phase: p.name, Metric: m.key, Unit: m.unit, Target: target}
			r.Cells = append(r.Cells, c)
		}
		c.Values = append(c.Values, value)
		c.Median, c.Min, c.Max = median(c.Values), slices.Min(c.Values), slices.Max(c.Values)
	}
}

// cell is nil if there is none.
func (r *report) cell(phase, metric, target string) *cell {
	for _, c := range r.Cells {
		if c.Phase == phase && c.Metric == metric && c.Target == target {
			return c
		}
	}
	return nil
}

func median(all []float64) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	s := slices.Sorted(slices.Values(all))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// ratio is how many times the other's value unitgate's is: the median over the rounds, whose values are neighbours in
// time on a machine that changes. NaN if one of the two is missing.
func (r *report) ratio(phase, metric, other string) float64 {
	ours, theirs := r.cell(phase, metric, targetUnitgate), r.cell(phase, metric, other)
	if ours == nil || theirs == nil {
		return math.NaN()
	}
	if len(ours.Values) != len(theirs.Values) { // a round failed, so which belong together is not known
		return ours.Median / theirs.Median
	}
	var all []float64
	for i := range ours.Values {
		all = append(all, ours.Values[i]/theirs.Values[i])
	}
	return median(all)
}

// write writes everything as JSON.
func (r *report) write(file string) error {
	for _, c := range r.Cells {
		if ratio := r.ratio(c.Phase, c.Metric, c.Target); c.Target != targetUnitgate && !math.IsNaN(ratio) && !math.IsInf(ratio, 0) {
			c.Ratio = ratio
		}
	}
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o644)
}

// line is one round's values for the eye.
func (p *phase) line(v values) string {
	var parts []string
	for _, m := range p.metrics {
		if value, ok := v[m.key]; ok {
			parts = append(parts, fmt.Sprintf("%s %s %s", m.key, number(value), m.unit))
		}
	}
	return strings.Join(parts, "  ")
}

// print writes the tables as Markdown.
func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%s, %s", r.Date.Format(time.DateOnly), r.Machine)
	for _, t := range allTargets {
		if v := r.Versions[t]; v != "" {
			fmt.Fprintf(w, ", %s %s", t, v)
		}
	}
	fmt.Fprintf(w, ". Median of %d rounds (smallest to largest); × is unitgate's value over the other's, median of the rounds' ratios.\n\n", r.rounds)
	r.printTable(w)
	r.printGoals(w)
	r.printNoise(w)
	for _, f := range r.Failures {
		fmt.Fprintf(w, "FAILED: %s\n", f)
	}
}

func (r *report) printTable(w io.Writer) {
	var targets []string
	for _, t := range allTargets {
		if slices.ContainsFunc(r.Cells, func(c *cell) bool { return c.Target == t }) {
			targets = append(targets, t)
		}
	}
	head := []string{"phase", "figure"}
	head = append(head, targets...)
	for _, t := range []string{targetObserved, targetNginx, targetHAProxy} {
		if slices.Contains(targets, t) && slices.Contains(targets, targetUnitgate) {
			head = append(head, "× "+t)
		}
	}
	row(w, head)
	row(w, slices.Repeat([]string{"---"}, len(head)))
	for _, p := range phases() {
		for _, m := range p.metrics {
			out := []string{p.name, m.title + ", " + m.unit}
			measured := false
			for _, name := range head[2:] {
				text := ""
				if other, ok := strings.CutPrefix(name, "× "); ok {
					text = number(r.ratio(p.name, m.key, other))
				} else if c := r.cell(p.name, m.key, name); c != nil {
					measured = true
					text = fmt.Sprintf("%s (%s–%s)", number(c.Median), number(c.Min), number(c.Max))
				}
				out = append(out, text)
			}
			if measured {
				row(w, out)
			}
		}
	}
}

func row(w io.Writer, cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }

// number writes three digits that mean something; "" for none.
func number(v float64) string {
	switch a := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return ""
	case a >= 10_000:
		return grouped(int64(math.Round(v/100) * 100))
	case a >= 1000:
		return grouped(int64(math.Round(v/10) * 10))
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	default:
		return fmt.Sprintf("%.2f", v)
	}
}

func grouped(n int64) string {
	if n < 0 {
		return "-" + grouped(-n)
	}
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", grouped(n/1000), n%1000)
}
