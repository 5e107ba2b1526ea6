package events

import "slices"

// decideDriven decides the driver's commands, which the driver in office alone may give (R1).
func (s *State) decideDriven(env Envelope) (Event, error) {
	term, ok := termOf(env.Command)
	if !ok {
		return nil, ErrBadCommand.With("%T is not decided here", env.Command)
	}
	if err := s.inTerm(term); err != nil {
		return nil, err
	}
	switch c := env.Command.(type) {
	case FenceWave:
		return s.decideFence(c)
	case CommitWave:
		return s.decideCommit(c)
	case JudgeWave:
		return s.decideJudge(c)
	case CompleteCutover:
		return s.decideComplete(c)
	case FailCutover:
		return s.decideFail(c)
	case RecordHook:
		return s.decideHook(c)
	case ReportCutover:
		return s.decideReport(c)
	case EstablishOwnership:
		return s.decideEstablish(c)
	default:
		return nil, ErrBadCommand.With("%T is not decided here", c)
	}
}

func termOf(c Command) (term uint64, ok bool) {
	switch c := c.(type) {
	case FenceWave:
		return c.Term, true
	case CommitWave:
		return c.Term, true
	case JudgeWave:
		return c.Term, true
	case CompleteCutover:
		return c.Term, true
	case FailCutover:
		return c.Term, true
	case RecordHook:
		return c.Term, true
	case ReportCutover:
		return c.Term, true
	case EstablishOwnership:
		return c.Term, true
	default:
		return 0, false
	}
}

// inTerm lets only the driver in office act (R1).
func (s *State) inTerm(term uint64) error {
	if term != s.Office.Term {
		return ErrStaleTerm.With("term %d does not hold the office, term %d does", term, s.Office.Term)
	}
	return nil
}

func (s *State) decideFence(c FenceWave) (Event, error) {
	cut, err := s.cutover(c.Cutover, Started)
	if err != nil {
		return nil, err
	}
	if cut.FencedWave() >= 0 || cut.NextWave() != c.Wave || c.Wave >= len(cut.Waves) {
		return nil, ErrWrongState.With("wave %d of %s is not the next to fence", c.Wave, cut.ID)
	}
	if s.Policy.Ownership == "exclusive" && !s.Exclusive.Counts() { // R13
		return nil, ErrNotEstablished.With("exclusive ownership does not count yet: some registered edge holds no lease; retire it if it is gone for good")
	}
	if err := cut.called(); err != nil {
		return nil, err
	}
	if err := cut.judged(); err != nil {
		return nil, err
	}
	return WaveFenced(c), nil
}

// decideCommit holds R5, R7 and R8 once more, whatever the driver believes: every needed edge has reported for this
// fence, or an operator did without it.
func (s *State) decideCommit(c CommitWave) (Event, error) {
	cut, err := s.cutover(c.Cutover, Started)
	if err != nil {
		return nil, err
	}
	if c.Wave < 0 || cut.FencedWave() != c.Wave {
		return nil, ErrWrongState.With("wave %d of %s is not fenced", c.Wave, cut.ID)
	}
	if units := s.Deserted(&cut, c.Wave); len(units) > 0 {
		return nil, ErrWrongState.With("unit %s would gain users and has no edge left to serve them", units[0])
	}
	w := cut.Waves[c.Wave]
	for _, e := range s.NeededEdges(&cut, c.Wave) {
		if _, ok := w.SkipEdges[e.ID]; ok {
			continue
		}
		i := slices.IndexFunc(c.Edges, func(r EdgeResult) bool { return r.ID == e.ID })
		if i < 0 || !s.suffices(c.Edges[i], e, w.FenceSeq) {
			return nil, ErrWrongState.With("edge %s has not reported for the fence at %d", e.ID, w.FenceSeq)
		}
	}
	return WaveCommitted(c), nil
}

// suffices reports whether a result lets the commit do without more of the edge: its reports for this very fence (R6), or
// under exclusive ownership that its last lease has run out, which only the driver can measure (R5). Nothing else counts
// for a retired edge (R7).
func (s *State) suffices(r EdgeResult, e NeededEdge, fence uint64) bool {
	if r.Silent {
		return s.Exclusive.Counts()
	}
	return !e.Awaited && r.Fence == fence && r.Applied >= fence && (r.Drained || !e.Loses)
}

// judged refuses to go on past a commit that a set gate has not judged yet.
func (c *Cutover) judged() error {
	if n := c.NextWave(); c.Gate.Set() && n > 0 && c.Waves[n-1].Gate == nil {
		return ErrWrongState.With("the gate of %s has not judged wave %d yet", c.ID, n-1)
	}
	return nil
}

func (s *State) decideJudge(c JudgeWave) (Event, error) {
	cut, err := s.cutover(c.Cutover, Started)
	if err != nil {
		return nil, err
	}
	if !cut.Gate.Set() || c.Wave < 0 || c.Wave != cut.NextWave()-1 || cut.FencedWave() >= 0 || cut.Waves[c.Wave].Gate != nil {
		return nil, ErrWrongState.With("wave %d of %s is not to be judged", c.Wave, cut.ID)
	}
	return WaveJudged(c), nil
}

func (s *State) decideComplete(c CompleteCutover) (Event, error) {
	cut, err := s.cutover(c.Cutover, Started)
	if err != nil {
		return nil, err
	}
	if cut.NextWave() < len(cut.Waves) {
		return nil, ErrWrongState.With("wave %d of %s is not committed", cut.NextWave(), cut.ID)
	}
	if err := cut.judged(); err != nil {
		return nil, err
	}
	return CutoverCompleted(c), nil
}
