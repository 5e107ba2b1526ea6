package scenarios

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
	"github.com/unitgate/unitgate/services/cutover"
)

// line is one line of a story: a verb, what it is about, and settings NAME=VALUE.
type line struct {
	verb string
	args []string
	set  map[string]string
}

func parseLine(text string) line {
	fields := strings.Fields(text)
	l := line{verb: fields[0], set: map[string]string{}}
	for _, f := range fields[1:] {
		if name, value, ok := strings.Cut(f, "="); ok {
			l.set[name] = strings.ReplaceAll(value, "_", " ")
		} else {
			l.args = append(l.args, f)
		}
	}
	return l
}

func (l line) arg(i int) string {
	if i < len(l.args) {
		return l.args[i]
	}
	return ""
}

func (l line) number(name string) int {
	n, err := strconv.Atoi(l.set[name])
	if err != nil {
		return 0
	}
	return n
}

// do plays one line and returns what is to be printed.
func (s *stage) do(text string) []string {
	l := parseLine(text)
	s.said = nil
	switch l.verb {
	case "driver":
		s.boot(l.arg(0))
	case "crash":
		s.drivers[l.arg(0)].machine = nil
	case "stop":
		s.stop(l.arg(0))
	case "cut":
		s.drivers[l.arg(0)].cut = true
	case "heal":
		p := s.drivers[l.arg(0)]
		p.cut = false
		s.play(p, cutover.StateAdvanced{At: s.at(), State: s.head, Epoch: epoch})
	case "wait":
		d, err := time.ParseDuration(l.arg(0))
		if err != nil {
			s.say("usage: wait DURATION")
		}
		s.wait(d)
	case "ack":
		s.ack(l)
	case "show":
		s.show(l.arg(0))
	case "try":
		s.try(parseLine(strings.TrimPrefix(strings.TrimSpace(text), "try")))
	default:
		cmd := s.command(l)
		if cmd == nil {
			s.say("there is no verb %q", l.verb)
			break
		}
		if _, err := s.submit(s.uuid(), "operator", cmd); err != nil {
			s.said = append([]string{code(err)}, s.said...)
		}
	}
	if len(s.said) == 0 {
		return []string{"ok"}
	}
	return s.said
}

// try says what a command would lead to, and changes nothing.
func (s *stage) try(l line) {
	cmd := s.command(l)
	if cmd == nil {
		s.say("there is no verb %q", l.verb)
		return
	}
	_, e, err := s.decide(s.uuid(), "operator", cmd)
	if err != nil {
		s.say("%s", code(err))
		return
	}
	s.say("%s", strings.TrimPrefix(fmt.Sprintf("%T", e), "events."))
}

// command is the command that a line stands for, nil if none.
func (s *stage) command(l line) events.Command {
	id, term := l.arg(0), uint64(l.number("term"))
	switch l.verb {
	case "preview":
		return l.preview()
	case "check":
		return events.CheckCutover{Cutover: id, Checks: s.checks(l.set["fail"])}
	case "retry":
		return events.RetryCheck{Cutover: id, Check: l.arg(1), Result: events.Check{ID: l.arg(1), State: events.Pass, At: s.date()}}
	case "skip":
		return events.SkipCheck{Cutover: id, Check: l.set["check"], Edge: l.set["edge"], Reason: l.set["reason"], Term: term}
	case "start":
		c := events.StartCutover{Cutover: id}
		if l.set["checks"] != "none" {
			c.Checks = s.checks(l.set["fail"])
		}
		return c
	case "pause":
		return events.PauseCutover{Cutover: id, Reason: l.set["reason"], Term: term, Code: l.set["code"]}
	case "resume":
		return events.ResumeCutover{Cutover: id}
	case "abort":
		return events.AbortCutover{Cutover: id, Reason: l.set["reason"]}
	case "rollback":
		return events.RollbackCutover{Cutover: id, Term: term}
	case "retire":
		return events.RetireEdge{ID: id, Reason: l.set["reason"]}
	case "join":
		return events.JoinEdge{ID: id, Directory: directoryOf(l.set["directory"] + id), Unit: l.set["unit"], Cluster: l.set["cluster"], Address: l.set["address"]}
	case "leave":
		return events.LeaveEdge{ID: id, Directory: directoryOf(l.set["directory"] + id)}
	default:
		return s.driven(l, id, term)
	}
}

// driven are the commands of a driver, as a story may give them itself to show what is refused.
func (s *stage) driven(l line, id string, term uint64) events.Command {
	wave := l.number("wave")
	switch l.verb {
	case "fence":
		return events.FenceWave{Cutover: id, Wave: wave, Term: term}
	case "commit":
		return events.CommitWave{Cutover: id, Wave: wave, Term: term, Edges: s.results(id)}
	case "judge":
		return events.JudgeWave{Cutover: id, Wave: wave, Term: term, Result: events.GateResult{OK: l.set["ok"] == "yes", Message: l.set["message"]}}
	case "complete":
		return events.CompleteCutover{Cutover: id, Term: term}
	case "fail":
		return events.FailCutover{Cutover: id, Term: term, Why: events.Why{Code: "hook_failed", Message: "no"}}
	case "hook":
		return events.RecordHook{Cutover: id, Term: term, Result: events.HookResult{Name: "page", On: "pre"}}
	case "report":
		return events.ReportCutover{Cutover: id, Term: term}
	case "take-office":
		return events.TakeOffice{Term: term, Holder: id}
	default:
		return nil
	}
}

func (l line) preview() events.Command {
	c := events.PreviewCutover{Waves: l.number("waves"), Drain: l.set["drain"], Emergency: l.set["emergency"] == "yes", Reason: l.set["reason"]}
	for _, unit := range []string{"center", "unbj", "mars"} {
		if text := l.set[unit]; text != "" {
			r, err := routing.ParseRange(text)
			if err != nil {
				panic(err)
			}
			if c.Ranges == nil {
				c.Ranges = map[string][]routing.Range{}
			}
			c.Ranges[unit] = []routing.Range{r}
		}
	}
	if text := l.set["steps"]; text != "" {
		for f := range strings.SplitSeq(text, ",") {
			n, err := strconv.Atoi(f)
			if err != nil {
				panic(err)
			}
			c.Steps = append(c.Steps, n)
		}
	}
	if text := l.set["rate"]; text != "" {
		rate := events.Rate(l.number("rate"))
		c.Rate = &rate
	}
	if text := l.set["landed"]; text != "" {
		c.Gate = &events.Gate{Landed: l.number("landed")}
	}
	if d, err := time.ParseDuration(l.set["interval"]); err == nil {
		c.Interval = events.Duration(d)
	}
	return c
}

// checks are the verdicts of all prechecks: passed, but for one.
func (s *stage) checks(fail string) []events.Check {
	var out []events.Check
	for _, id := range events.CheckIDs() {
		k := events.Check{ID: id, State: events.Pass, At: s.date()}
		if id == fail {
			k.State, k.Message = events.Fail, "as the story wants"
		}
		out = append(out, k)
	}
	return out
}

// results are what a commit needs of every edge.
func (s *stage) results(cut string) []events.EdgeResult {
	c := s.head.Cutovers[cut]
	i := c.FencedWave()
	if i < 0 {
		return nil
	}
	var out []events.EdgeResult
	for _, e := range s.head.NeededEdges(&c, i) {
		out = append(out, events.EdgeResult{ID: e.ID, Unit: e.Unit, Applied: c.Waves[i].FenceSeq, Fence: c.Waves[i].FenceSeq, Drained: true})
	}
	return out
}

// ack is a report: `ack b1` has applied the head and drained, `ack b1 applied` is not drained, seq= says an older state,
// fence= another fence, process= another incarnation.
func (s *stage) ack(l line) {
	for _, id := range l.args {
		r, ok := s.edges[id]
		if !ok {
			continue // "applied"
		}
		report := *r
		report.Applied = s.head.Seq
		if n := l.number("seq"); n > 0 {
			report.Applied = uint64(n)
		}
		if p := l.set["process"]; p != "" {
			report.Incarnation = p
		}
		for _, c := range s.head.CutoverList() {
			if i := c.FencedWave(); i >= 0 && c.Waves[i].FenceSeq <= report.Applied {
				f := events.FenceReport{Cutover: c.ID, Wave: i, Fence: c.Waves[i].FenceSeq, Drained: !slices.Contains(l.args, "applied")}
				if n := l.number("fence"); n > 0 {
					f.Fence = uint64(n)
				}
				report.Fences = append(report.Fences, f)
			}
		}
		for _, p := range s.cast() {
			s.play(p, cutover.Reported{At: s.at(), Report: report})
		}
	}
}

// stop asks a driver to end, as SIGTERM does.
func (s *stage) stop(name string) {
	p := s.drivers[name]
	s.play(p, cutover.Stop{At: s.at()})
	if p.machine.Stopped() {
		p.machine = nil
		s.say("%s has ended; the office is %+v", name, s.key.OfficeValue)
	}
}

// show is a cutover as the journal has it.
func (s *stage) show(id string) {
	if id == "office" {
		for _, name := range slices.Sorted(mapKeys(s.drivers)) {
			p := s.drivers[name]
			switch {
			case p.machine == nil:
				s.say("%s does not run", name)
			case p.machine.Serving():
				s.say("%s is in office, term %d", name, p.machine.Term())
			default:
				s.say("%s stands by", name)
			}
		}
		return
	}
	c, ok := s.head.Cutovers[id]
	if !ok {
		s.say("there is no cutover %q", id)
		return
	}
	why := ""
	if c.Why != nil {
		why = fmt.Sprintf(" (%s: %s)", c.Why.Code, c.Why.Message)
	}
	s.say("%s is %s%s; the rules are at version %d", c.ID, c.State, why, s.head.Rules["user"].Version)
	for i, w := range c.Waves {
		skipped := ""
		for _, e := range s.head.LiveEdges() {
			if k, ok := w.SkipEdges[e.ID]; ok {
				skipped += fmt.Sprintf(", without %s: %s", e.ID, k.Reason)
			}
		}
		s.say("  wave %d: slots %v %s%s", i, w.Slots, w.State, skipped)
	}
}
