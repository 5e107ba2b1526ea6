package agent

import (
	"encoding/hex"

	"github.com/unitgate/unitgate/events"
)

// diary is what the log has been told of cutovers. The loop owns it; the zero value has told nothing.
type diary struct {
	fences  map[uint64]bool   // that the machine reports: drained
	commits map[string]uint64 // by unit type: the fence of the newest commit
}

// write logs what a step has changed of the cutovers: each line names the cutover and its trace, so that it is found
// beside what controllers and other edges say.
func (l *loop) write(r *events.EdgeReport) {
	state := l.machine.applied().state
	next := make(map[uint64]bool, len(r.Fences))
	for _, f := range r.Fences {
		drained, known := l.diary.fences[f.Fence]
		if !known {
			l.log.Info("fence applied", l.about(state, f.Cutover, "wave", f.Wave, "fence", f.Fence)...)
		}
		if f.Drained && !drained {
			l.log.Info("drained", l.about(state, f.Cutover, "wave", f.Wave, "fence", f.Fence, "evicted", f.Evicted)...)
		}
		next[f.Fence] = f.Drained
	}
	l.diary.fences = next
	l.writeCommits()
}

// writeCommits logs the commits that every poller has come to decide by.
func (l *loop) writeCommits() {
	state := l.machine.installed.state
	if state == nil {
		return
	}
	first := l.diary.commits == nil
	if first {
		l.diary.commits = map[string]uint64{}
	}
	for _, t := range state.UnitTypes {
		c, ok := state.InForce(t.Name)
		if !ok || c.NextWave() == 0 {
			continue
		}
		wave := c.NextWave() - 1
		if fence := c.Waves[wave].FenceSeq; fence > l.diary.commits[t.Name] {
			l.diary.commits[t.Name] = fence
			if !first { // else it is history
				l.log.Info("commit applied", l.about(state, c.ID, "wave", wave, "fence", fence)...)
			}
		}
	}
}

// about are the attributes of a line about a cutover.
func (l *loop) about(s *events.State, cutover string, more ...any) []any {
	out := append([]any{"cutover", cutover}, more...)
	if s == nil {
		return out
	}
	c := s.Cutovers[cutover]
	if t, ok := c.Trace(); ok {
		out = append(out, "trace_id", hex.EncodeToString(t.ID[:]))
	}
	return out
}

// aboutType are those of a line about the cutover of a unit type, if one is in force.
func (l *loop) aboutType(unitType string, more ...any) []any {
	if s := l.machine.installed.state; s != nil {
		if c, ok := s.InForce(unitType); ok {
			return l.about(s, c.ID, more...)
		}
	}
	return more
}
