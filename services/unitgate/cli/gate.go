package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

// gateOf reads "landed=90,handshake-errors=5,origin-errors=5,window=30s,action=pause"; "" is nil, "none" looks at nothing.
// Whether the values make sense the control plane says.
func gateOf(list string) (*events.Gate, error) {
	switch list {
	case "":
		return nil, nil //nolint:nilnil // not given
	case "none":
		return &events.Gate{}, nil
	}
	var g events.Gate
	numbers := map[string]*int{"landed": &g.Landed, "handshake-errors": &g.HandshakeErrors, "origin-errors": &g.OriginErrors}
	seen := map[string]bool{}
	for item := range strings.SplitSeq(list, ",") {
		name, value, _ := strings.Cut(item, "=")
		var err error
		switch n := numbers[name]; {
		case seen[name]:
			err = fmt.Errorf("%s stands there twice", name)
		case n != nil:
			*n, err = strconv.Atoi(strings.TrimSuffix(value, "%"))
		case name == "window":
			var d time.Duration
			d, err = time.ParseDuration(value)
			g.Window = events.Duration(d)
		case name == "action":
			g.Action = value
		default:
			err = fmt.Errorf("%q is none of landed, handshake-errors, origin-errors, window and action", name)
		}
		if err != nil {
			return nil, usage("--gate %q: %w", list, err)
		}
		seen[name] = true
	}
	return &g, nil
}

// gateText is a gate as --gate takes it.
func gateText(g events.Gate) string {
	var parts []string
	for _, p := range []struct {
		name  string
		value int
	}{{"landed", g.Landed}, {"handshake-errors", g.HandshakeErrors}, {"origin-errors", g.OriginErrors}} {
		if p.value > 0 {
			parts = append(parts, fmt.Sprintf("%s=%d", p.name, p.value))
		}
	}
	return strings.Join(append(parts, "window="+time.Duration(g.Window).String(), "action="+g.Action), ",")
}

// gateVerdict is what the gate of a cutover says of a wave, "" if it has nothing to say yet.
func gateVerdict(v cutover.View, w cutover.WaveView) string {
	switch g := w.Gate; {
	case g == nil && w.State == events.CommittedWave && v.Gate != nil && v.State == events.Started:
		return "gate: its users are on their way"
	case g == nil:
		return ""
	case g.OK:
		return "gate passed: " + g.Message
	default:
		return "gate failed"
	}
}

// reported shows what an ended cutover did to its users and to all others.
func (c *cli) reported(v cutover.View) {
	r := v.Report
	if r == nil {
		return
	}
	c.say("  report")
	t := &table{}
	t.row("    users", fmt.Sprintf("%d evicted, %d landed; of %d compared %d not seen again", r.Evicted, r.Landed, r.Compared, r.NotSeen))
	if b := r.Blackout; b.Samples > 0 {
		t.row("    blackout", fmt.Sprintf("p50 %.1f ms, p99 %.1f ms, within %.1f ms, of %d sessions: from their Close to their next 101", b.P50, b.P99, b.Within, b.Samples))
	}
	u := r.Untouched
	same := "they are the same"
	if !u.Same {
		same = "they are NOT the same"
	}
	line := fmt.Sprintf("%d before, %d after, %d ended by their peers", u.Before, u.After, u.EndedByPeer)
	if u.Evicted > 0 {
		line += fmt.Sprintf(", %d evicted by an operator", u.Evicted)
	}
	if u.ClosedByUs > 0 {
		line += fmt.Sprintf(", %d CLOSED BY AN EDGE", u.ClosedByUs)
	}
	line += fmt.Sprintf("; sockets of %d compared", u.Compared)
	if u.Changed > 0 {
		line += fmt.Sprintf(", %d CHANGED", u.Changed)
	}
	t.row("    untouched", line+": "+same)
	if len(r.Silent) > 0 {
		t.row("    missing", "what these edges know, which did not answer or have restarted: "+strings.Join(r.Silent, ", "))
	}
	_ = t.write(c.out)
}
