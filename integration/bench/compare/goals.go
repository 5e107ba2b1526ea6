//go:build linux

package main

import (
	"fmt"
	"io"
	"math"
	"slices"
)

// goal is a ratio that the edge is built for.
type goal struct {
	phase, metric, title string
	others               []string // the better of them counts
	least                bool     // limit is the least ratio, else the most
	limit                float64
}

var goals = []goal{
	{"idle", "user", "user memory per idle session", []string{targetHAProxy}, false, 1.0 / 4},
	{"idle", "user", "user memory per idle session", []string{targetNginx}, false, 1.0 / 10},
	{"handshake", "rate", "handshakes a second", []string{targetNginx}, true, 1},
	{"handshake", "cpu", "CPU per handshake", []string{targetNginx}, false, 1.1},
	{"echo20k", "p50", "echo at 20,000/s, p50", []string{targetNginx, targetHAProxy}, false, 1.1},
	{"echo20k", "p99", "echo at 20,000/s, p99", []string{targetNginx, targetHAProxy}, false, 1.5},
	{"closed", "rate", "closed loop", []string{targetNginx}, true, 1},
	{"bulk", "rate", "bulk MB/s", []string{targetHAProxy}, true, 1.8},
	{"bulk", "cpu", "bulk CPU s/GB", []string{targetHAProxy}, false, 0.6},
	{phaseCrowd, "user", "user memory per idle session in the crowd", []string{targetHAProxy}, false, 1.0 / 4},
	{phaseCrowd, "user", "user memory per idle session in the crowd", []string{targetNginx}, false, 1.0 / 10},
	{"tlshandshake", "cpu", "CPU per TLS handshake", []string{targetNginx, targetHAProxy}, false, 1.1},
	{"tlsbulk", "cpu", "CPU s/GB over TLS", []string{targetNginx, targetHAProxy}, false, 1.1},
	{"handshake", "rate", "handshakes a second without traces and metrics", []string{targetObserved}, false, 1.05},
	{"handshake", "cpu", "CPU per handshake without traces and metrics", []string{targetObserved}, true, 0.95},
	{"echo20k", "p50", "echo at 20,000/s, p50, without traces and metrics", []string{targetObserved}, true, 0.95},
	{"echo20k", "cpu", "CPU per message without traces and metrics", []string{targetObserved}, true, 0.95},
	{"closed", "rate", "closed loop without traces and metrics", []string{targetObserved}, false, 1.05},
}

// limits are goals without anybody to compare with.
var limits = []struct {
	phase, metric, title string
	most                 float64
	text                 string
}{
	{"idle", "user", "user memory per idle session", 1536, "1.5 KiB"},
	{phaseCrowd, "user", "user memory per idle session in the crowd", 1536, "1.5 KiB"},
	{"tlsidle", "user", "user memory per idle TLS session", 7 << 10, "7 KiB"},
	{"slow", "user", "user memory per slow reader", 32 << 10, "32 KiB"},
	{"evict2", "close", "10,000 evictions from two edges, to the last Close frame", 400, "400 ms"},
}

// better is the one of the goal's others that did better, "" if none was measured.
func (r *report) better(g goal) string {
	best := ""
	for _, name := range g.others {
		c := r.cell(g.phase, g.metric, name)
		if c == nil {
			continue
		}
		if b := r.cell(g.phase, g.metric, best); b == nil || (c.Median > b.Median) == g.least {
			best = name
		}
	}
	return best
}

func verdict(met bool) string {
	if met {
		return "met"
	}
	return "missed"
}

// printGoals holds the medians against what they should be. Phases that were not run are left out.
func (r *report) printGoals(w io.Writer) {
	var rows [][]string
	for _, g := range goals {
		other := r.better(g)
		ratio := r.ratio(g.phase, g.metric, other)
		if math.IsNaN(ratio) {
			continue
		}
		word := "≤"
		met := ratio <= g.limit
		if g.least {
			word, met = "≥", ratio >= g.limit
		}
		rows = append(rows, []string{g.title, fmt.Sprintf("%s %s × %s", word, number(g.limit), other), number(ratio), verdict(met)})
	}
	for _, l := range limits {
		if c := r.cell(l.phase, l.metric, targetUnitgate); c != nil {
			rows = append(rows, []string{l.title, "≤ " + l.text, number(c.Median) + " " + c.Unit, verdict(c.Median <= l.most)})
		}
	}
	if len(rows) == 0 {
		return
	}
	fmt.Fprintln(w)
	row(w, []string{"goal", "limit", "measured", ""})
	row(w, []string{"---", "---", "---", "---"})
	for _, cells := range rows {
		row(w, cells)
	}
}

// printNoise says how far the figures can be trusted.
func (r *report) printNoise(w io.Writer) {
	if len(r.Noise.Others) == 0 {
		return
	}
	percent := func(v float64) string { return fmt.Sprintf("%.0f %%", 100*v) }
	fmt.Fprintf(w, "\nNoise: other processes had %s of the processors in the median measurement and %s in the worst; the hypervisor took %s and %s; load average %.1f to %.1f.",
		percent(median(r.Noise.Others)), percent(slices.Max(r.Noise.Others)), percent(median(r.Noise.Stolen)), percent(slices.Max(r.Noise.Stolen)),
		slices.Min(r.Noise.LoadAvg), slices.Max(r.Noise.LoadAvg))
	var spreads []float64
	for _, c := range r.Cells {
		if len(c.Values) > 1 && c.Median != 0 {
			spreads = append(spreads, (c.Max-c.Min)/c.Median)
		}
	}
	if len(spreads) > 0 {
		fmt.Fprintf(w, " From round to round a cell spreads by %s of its median (the median cell), %s at worst.", percent(median(spreads)), percent(slices.Max(spreads)))
	}
	fmt.Fprintln(w)
}
