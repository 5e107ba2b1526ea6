package agent

import (
	"context"

	"github.com/unitgate/unitgate/events"
)

// maxPassageUsers bounds the users that one answer tells of on each side: two of them at 16 bytes, in base64, stay well
// under what a message may hold.
const maxPassageUsers = 8192

// commit is the newest committed wave of a unit type's cutover in force, with what the relay's counters stood at when
// the agent handed that state to the pollers.
type commit struct {
	cutover string
	fence   uint64
	whole   bool // the pollers decided by an earlier state before: nothing that followed the commit was counted by another process
	base    events.Counters
}

// trackCommits notes the counters for commits that are new in a state. See track.
func (a *Agent) trackCommits(s *events.State) {
	next := map[string]commit{}
	for _, t := range s.UnitTypes {
		c, ok := s.InForce(t.Name)
		if !ok || c.NextWave() == 0 {
			continue
		}
		was, fence := a.commits[t.Name], c.Waves[c.NextWave()-1].FenceSeq
		if was.cutover != c.ID || was.fence != fence {
			was = commit{c.ID, fence, a.installed.state != nil, a.counts[t.Name].Counters}
		}
		next[t.Name] = was
	}
	a.commits = next
}

// sinceCommit is what was counted since the newest commit of a cutover.
func (p *progress) sinceCommit(unitType, cutover string) events.CommitCounts {
	c, ok := p.commits[unitType]
	if !ok || c.cutover != cutover {
		return events.CommitCounts{}
	}
	return events.CommitCounts{Fence: c.fence, Whole: c.whole, Counters: p.counts[unitType].Counters.Less(c.base)}
}

// answerCutover answers an events.CutoverQuestion.
func (r *Runner) answerCutover(_ context.Context, data []byte) (any, error) {
	var q events.CutoverQuestion
	if err := events.DecodeStrict(data, &q); err != nil {
		return nil, err
	}
	if q.Users < 0 || q.Users > maxPassageUsers {
		return nil, events.ErrBadValue.With("want 0 to %d", maxPassageUsers).At("users")
	}
	if len(q.Fences) > events.MaxFences {
		return nil, events.ErrBadValue.With("%d fences, at most %d are allowed", len(q.Fences), events.MaxFences).At("fences")
	}
	q.UnitType = r.unitType(q.UnitType)
	answer := r.cfg.Relay.Passage(q)
	answer.Commit = r.shown.Load().sinceCommit(q.UnitType, q.Cutover)
	return answer, nil
}
