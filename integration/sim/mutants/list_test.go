package mutants

// edit replaces a text that stands once in a file.
type edit struct{ file, old, new string }

// mutant is the code with one rule removed. A rule that is kept in two places, by the driver and once more by Decide, is
// removed from both.
type mutant struct {
	name  string
	rule  string
	edits []edit
	test  string // package of the test that has to fail; "": the simulation
	by    string // that test's name
	mixed bool   // of a mutant of the leases: takes a change of ownership, so that seeds of both kinds are played
}

const (
	wave     = "services/cutover/wave.go"
	term     = "services/cutover/term.go"
	driver   = "services/cutover/driver.go"
	join     = "events/join.go"
	relay    = "edge/relay"
	wavesOf  = "events/decide_wave.go"
	endOf    = "events/decide_end.go"
	state    = "events/state.go"
	evolve   = "events/evolve.go"
	cutovers = "events/evolve_cutover.go"
	table    = "events/routing/table.go"
	machine  = "edge/agent/machine.go"
	held     = "edge/agent/lease.go"
	leases   = "services/cutover/lease.go"
	times    = "events/lease.go"
	fences   = "edge/agent/cutovers.go"
	view     = "edge/agent/view.go"
	verdict  = "edge/handshake/verdict.go"
)

var list = []mutant{
	{name: "commit-without-drained", rule: "R5: a losing edge reports applied and drained", edits: []edit{
		{wave, "res.Applied >= w.FenceSeq && (res.Drained || !e.Loses)", "res.Applied >= w.FenceSeq"},
		{wavesOf, "r.Applied >= fence && (r.Drained || !e.Loses)", "r.Applied >= fence"},
	}},
	{name: "commit-without-gaining", rule: "R8: gaining edges report applied, too", edits: []edit{
		{state, "(loses[e.Unit] || gains[e.Unit])", "loses[e.Unit]"},
	}},
	{name: "report-before-disk", rule: "R6: a report is sent after fsync", edits: []edit{
		{machine, "\treturn a.stored\n}", "\tif v := a.installed; v.state != nil {\n\t\treturn version{v.epoch, v.state, v.state.Hash()}\n\t}\n\treturn a.stored\n}"},
	}},
	{name: "report-without-signature", rule: "what is said in an edge's name is signed by its key", edits: []edit{
		{wave, "return own || signer == \"\" && !e.Signs() && d.cfg.Signatures != events.SignaturesRequired && !k.used", "return true"},
	}},
	{name: "grant-without-signature", rule: "a grant is signed by the office", mixed: true, edits: []edit{
		{held, "office.Signs() && (signer != office.Key || in.Term != office.Term)", "office.Signs() && in.Term < office.Term"},
	}},
	{name: "leave-without-signature", rule: "only an edge itself leaves", edits: []edit{
		{join, "if !own {", "if _, leaves := env.Command.(LeaveEdge); !own && !leaves {"},
	}},
	{name: "join-without-signature", rule: "only an edge itself changes its address", edits: []edit{
		{join, "if !own {", "if _, joins := env.Command.(JoinEdge); !own && !joins {"},
		{join, "if key != \"\" && key != e.Key {", "if false {"},
	}},
	{name: "grants-in-a-new-epoch", rule: "a new epoch grants nothing for L+m", edits: []edit{
		{leases, "case !d.granting():", "case false:"},
	}},
	{name: "drained-while-victims", rule: "R5: drained means that no session and no dial is left", edits: []edit{
		{fences, "Drained: counted && n.Victims == 0", "Drained: counted && n.Victims < 2"},
	}},
	{name: "reports-without-fence", rule: "R6, R11: a report names the fence's sequence; one of an older fence does not count", edits: []edit{
		{wave, "f.Wave == i && f.Fence == w.FenceSeq", "f.Wave == i"},
		{wave, "res.Applied >= w.FenceSeq && (res.Drained || !e.Loses)", "(res.Drained || !e.Loses && res.Applied >= w.FenceSeq)"},
		{wavesOf, "r.Fence == fence && r.Applied >= fence && (r.Drained || !e.Loses)", "(r.Drained || !e.Loses && r.Applied >= fence)"},
	}},
	{name: "pause-keeps-fence", rule: "R11: pausing unfences", edits: []edit{
		{cutovers, "c.State, c.Why = Paused, &e.Why\n\t\tc.unfence()", "c.State, c.Why = Paused, &e.Why"},
	}},
	{name: "abort-keeps-fence", rule: "R11: aborting unfences", edits: []edit{
		{cutovers, "\tc.unfence()\n\tc.State, c.Why, c.EndedAt", "\tc.State, c.Why, c.EndedAt"},
	}},
	{name: "presence-instead-of-registration", rule: "R7: the journal says which edges are needed, not who is heard", edits: []edit{
		{wavesOf, "if i < 0 || !s.suffices(", "if i >= 0 && !s.suffices("},
		{wave, "\tresults := make([]events.EdgeResult, 0, len(f.needed))", "\tf.needed = slices.DeleteFunc(slices.Clone(f.needed), func(e events.NeededEdge) bool {\n" +
			"\t\tv, ok := d.voices[e.ID]\n\t\treturn !ok || d.now-v.Heard > 2*events.ReportEvery\n\t})\n\tresults := make([]events.EdgeResult, 0, len(f.needed))"},
	}},
	{name: "deadline-commits", rule: "a deadline unfences, it never guesses", edits: []edit{
		{wave, "\tcase len(late) > 0:\n\t\td.giveUp(", "\tcase len(late) > 0:\n\t\tfor k := range results {\n\t\t\tresults[k].Applied, results[k].Fence, results[k].Drained = f.seq, f.seq, true\n\t\t}\n" +
			"\t\td.want(c, wish{\"commit\", i, f.seq}, events.CommitWave{Cutover: c.ID, Wave: i, Term: d.office.term, Edges: results})\n\tcase f == nil:\n\t\td.giveUp("},
	}},
	{name: "commit-to-nobody", rule: "a wave is not committed to a unit without an edge", edits: []edit{
		{wave, "case len(deserted) > 0:", "case len(deserted) > 99:"},
		{wavesOf, "len(units) > 0 {", "len(units) > 99 {"},
	}},
	{name: "any-term", rule: "R1: Decide refuses what an older term asks for", edits: []edit{
		{wavesOf, "if term != s.Office.Term {", "if term > s.Office.Term {"},
	}},
	{name: "no-took-office", rule: "R1: a driver acts once the journal holds its taking office", edits: []edit{
		{driver, "d.office.holds(d.now) && d.state.Office == d.office.mine(d)", "d.office.holds(d.now)"},
		{wavesOf, "if term != s.Office.Term {", "if term < s.Office.Term {"},
	}},
	{name: "office-without-waiting", rule: "R1: the office is taken after the key stood unchanged for T+m_o", edits: []edit{
		{term, "return atOnce || d.now-o.since >= Term+TermMargin", "return atOnce || d.now-o.since >= Term/4"},
	}},
	{name: "office-margin-0", rule: "R1: T+m_o outlives T on any two clocks", edits: []edit{
		{driver, "TermMargin = 500 * time.Millisecond", "TermMargin = 0 * time.Millisecond"},
	}},
	{name: "term-without-end", rule: "R1: the holder checks its own term before everything it does", edits: []edit{
		{term, "return o.term > 0 && now < o.ends", "return o.term > 0"},
	}},
	// The simulation notices about once in 1,500 seeds, and which ones differs with each change of it.
	{name: "term-from-answer", rule: "R1: the term runs from before the write was sent", test: "services/cutover", by: "TestTermRunsFromBeforeTheWrite", edits: []edit{
		{term, "o.term, o.ends = w.Value.Term, o.wrote+Term", "o.term, o.ends = w.Value.Term, d.now+Term"},
	}},
	{name: "unknown-write-renews", rule: "R1: a write of unknown fate prolongs nothing", edits: []edit{
		{term, "o.known, o.polled = false, 0 // the running term goes on, but this write prolongs nothing", "o.known, o.polled = false, 0\n\t\to.ends = max(o.ends, o.wrote+2*Term)"},
	}},
	{name: "admits-before-join", rule: "R7: an edge admits only with a state that holds its own join", edits: []edit{
		{view, "return ok && e.Gone == \"\" && e.Unit == self.Unit && e.Directory == self.Directory", "return ok || e.Gone == \"\""},
	}},
	{name: "gone-comes-back", rule: "R7: a retired id never rejoins", edits: []edit{
		{join, "\t\tif old.Gone != \"\" {\n\t\t\treturn nil, ErrEdgeGone", "\t\tif old.Gone == \"left\" {\n\t\t\treturn nil, ErrEdgeGone"},
		{join, "if old.Gone != \"\" { // R7", "if old.Gone == \"left\" { // R7"},
	}},
	// The edges of the simulation sign, and a key that has signed keeps others out by itself.
	{name: "directory-cloned", rule: "R7: an id stays with its state directory", test: "events", by: "TestRefusals", edits: []edit{
		{join, "if e.Directory != directory {", "if e.Directory == \"\" {"},
	}},
	{name: "fence-without-evicting", rule: "a fenced key is served by nobody new, and who has it evicts", edits: []edit{
		{verdict, "return r, r.Unit == v.Unit && r.Next == \"\"", "return r, r.Unit == v.Unit"},
	}},
	{name: "fence-redirects", rule: "a fenced key's handshakes are held on both sides", edits: []edit{
		{verdict, "case vd.Route.Next != \"\":", "case vd.Route.Next != \"\" && vd.Route.Unit == v.Unit:"},
	}},
	{name: "fence-covers-all-waves", rule: "a fence stops the keys of its own wave only", edits: []edit{
		{state, "Phase: w.State.Phase()}", "Phase: max(w.State.Phase(), c.Waves[0].State.Phase()%2)}"},
	}},
	{name: "abort-takes-the-rest", rule: "an aborted cutover leaves uncommitted waves where they were", edits: []edit{
		{cutovers, "if c.NextWave() < len(c.Waves) {\n\t\tcurrent = c.Standing()", "if c.NextWave() < 0 {\n\t\tcurrent = c.Standing()"},
	}},
	{name: "exact-moves-with-slot", rule: "an exact ID is a key of its own", edits: []edit{
		{table, "if len(t.kind) > 0 {\n\t\tif i, ok := t.ids.find(id)", "if len(t.kind) > 99 {\n\t\tif i, ok := t.ids.find(id)"},
	}},
	{name: "stale-version", rule: "a cutover starts from the rules it was made against", edits: []edit{
		{endOf, "v != cut.RuleFrom {", "v == 0 {"},
	}},
	{name: "two-at-once", rule: "one cutover of a unit type runs at a time", edits: []edit{
		{endOf, "if r, ok := s.Running(cut.UnitType); ok {", "if r, ok := s.Running(cut.UnitType); ok && r.ID == \"\" {"},
		{cutovers, "if r, ok := s.Running(c.UnitType); ok {", "if r, ok := s.Running(c.UnitType); ok && r.ID == \"\" {"},
	}},
	{name: "lease-from-answer", rule: "R2: a lease runs from before its request was sent", edits: []edit{
		{held, "end := l.asked.Add(time.Duration(in.Lease))", "end := now.Add(time.Duration(in.Lease))"},
	}},
	{name: "no-nonce", rule: "R2: an answer is for the one nonce that is outstanding", edits: []edit{
		{held, "in.Nonce != l.nonce || ", ""},
		{held, "if !l.open || l.phase", "if l.phase"},
	}},
	{name: "any-incarnation", rule: "R2: an answer is for the process that asked", test: "edge/agent", by: "TestGrantIsForOneRequest", edits: []edit{
		{held, "in.Nonce != l.nonce || in.Incarnation != a.self.Incarnation ||", "in.Nonce != l.nonce ||"},
	}},
	{name: "lease-without-end", rule: "R3: a lease ends", edits: []edit{
		{held, "case l.phase == held && !now.Before(l.ends),\n", "case l.phase == held && now.Before(l.asked),\n"},
		{held, "l.phase, l.ends, l.epoch, l.length = held, end.Add(-l.guard), epoch, length", "l.phase, l.ends, l.epoch, l.length = held, end.Add(time.Hour), epoch, length\n\tend = l.ends"},
	}},
	{name: "grant-without-fence", rule: "R4: a lease only for an edge that has applied the newest fence", edits: []edit{
		{leases, "case r.Applied < s.Exclusive.Needs():", "case r.Applied < 1:"},
	}},
	{name: "margin-0", rule: "R5: L+m outlives L on any two clocks", edits: []edit{
		{times, "LeaseMargin = time.Second", "LeaseMargin = time.Nanosecond"},
	}},
	{name: "silence-from-office", rule: "R5: silence counts from the last grant", edits: []edit{
		{leases, "from := max(d.tenure.since, d.tenure.given[edge])", "from := d.tenure.since"},
	}},
	{name: "silence-from-grant-only", rule: "R5: silence counts from taking office, too: the driver before may have granted", edits: []edit{
		{leases, "from := max(d.tenure.since, d.tenure.given[edge])", "from := d.tenure.given[edge]"},
	}},
	{name: "silence-of-the-new-length", rule: "R13: after a change of L the longer one is waited for", edits: []edit{
		{leases, "time.Duration(d.state.Exclusive.Lease) + d.cfg.LeaseMargin", "time.Duration(d.state.Policy.Lease)/2 + d.cfg.LeaseMargin"},
	}},
	{name: "grant-out-of-office", rule: "R1: only the driver in office grants", edits: []edit{
		{leases, "if !d.Serving() || r.Namespace", "if r.Namespace"},
		{leases, "d.enter()\n\t\td.tenure.given[r.Edge] = d.now", "if d.tenure.given == nil {\n\t\t\td.tenure.given = map[string]time.Duration{}\n\t\t}\n\t\td.tenure.given[r.Edge] = d.now"},
	}},
	{name: "fence-before-established", rule: "R13: exclusive ownership counts once every registered edge holds a lease", mixed: true, edits: []edit{
		{leases, "s.Exclusive.Counts() || len(d.Unleased()) > 0", "s.Exclusive.Counts()"},
	}},
	{name: "retired-not-awaited", rule: "R7: who is retired under exclusive ownership is waited for", edits: []edit{
		{evolve, "e.Awaited = how == \"retired\" && s.Policy.Ownership == \"exclusive\"", "e.Awaited = how == \"left\" && s.Policy.Ownership == \"exclusive\""},
	}},
	{name: "timer-too-late", rule: "R12: a kernel timer ends a stopped process at lease end", edits: []edit{
		{held, "return []Output{Hold{Until: l.ends, End: end}}", "return []Output{Hold{Until: l.ends, End: end.Add(time.Hour)}}"},
	}},
	{name: "lapsed-edge-redirects", rule: "R9: without a lease an edge answers 503, not 302", test: relay, by: "TestEndOfALease", edits: []edit{
		{"edge/relay/admit.go", "if !e.leased() { // R9", "if vd := handshake.Decide(s.hs.req, e.view, s.hs.peer, s.tls != nil); !e.leased() && vd.Action != handshake.Answer { // R9"},
	}},
	{name: "no-lease-before-101", rule: "R10: the lease is asked for again before the 101", test: relay, by: "TestLeaseEndsWhileDialling", edits: []edit{
		{"edge/relay/reply.go", "if !e.leased() || !e.stillServed(s) {", "if !e.stillServed(s) {"},
		{"edge/relay/engine.go", "\te.observeLease()\n\tswitch", "\tswitch"},
	}},
	{name: "lease-renewed-after-end", rule: "R3: a lease that ended is never renewed", test: relay, by: "TestEndOfALease", edits: []edit{
		{"edge/relay/lease.go", "if was == never && !r.forbidden.CompareAndSwap(true, false) {", "if was == never && r.forbidden.CompareAndSwap(true, false) {"},
	}},
	{name: "no-look-after-waking-up", rule: "R12: a poller looks at the lease before it handles an event", test: relay, by: "TestEndOfALease", edits: []edit{
		{"edge/relay/engine.go", "\te.observeLease()\n\tswitch", "\tswitch"},
	}},
}
