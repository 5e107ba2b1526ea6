package sim

import (
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// ledger says who owns each key by the simplest reading of the events, independent of how the product compiles its tables:
// a fence names the next owner, a commit makes it the owner, and whatever else ends a fence leaves everything as it was.
type ledger struct {
	known bool
	owner [keyCount]string
	next  [keyCount]string
	waves map[string][]map[int]string // by cutover and wave: the keys that it moves, and where
}

// follow takes an event; was is the state before it.
func (l *ledger) follow(was *events.State, now *routes, e events.Event) {
	switch e := e.(type) {
	case events.CutoverProposed:
		l.propose(was, &e)
	case events.CutoverRolledBack:
		l.propose(was, &e.Back)
		l.unfence(was, e.Cutover)
	case events.WaveFenced:
		for k, unit := range l.waves[e.Cutover][e.Wave] {
			l.next[k] = unit
		}
	case events.WaveCommitted:
		for k, unit := range l.waves[e.Cutover][e.Wave] {
			l.owner[k], l.next[k] = unit, ""
		}
	case events.CutoverPaused:
		l.unfence(was, e.Cutover)
	case events.CutoverAborted:
		l.unfence(was, e.Cutover)
	default: // nothing else says who owns what, but for the baseline
		if !l.known && now[0].Unit != "" {
			l.known, l.waves = true, map[string][]map[int]string{}
			for k := range now {
				l.owner[k] = now[k].Unit
			}
		}
	}
}

// unfence: the fence of a cutover is lifted, if it has one.
func (l *ledger) unfence(was *events.State, cutover string) {
	if c := was.Cutovers[cutover]; c.State.Running() {
		l.next = [keyCount]string{}
	}
}

func (l *ledger) propose(was *events.State, e *events.CutoverProposed) {
	from, to, err := was.Between(*e)
	if err != nil {
		panic(err) // the state has taken it
	}
	exact := map[string]string{}
	for _, rules := range []*routing.Rules{from, to} {
		for unit, ids := range rules.Exact() {
			for _, id := range ids {
				exact[id] = unit
			}
		}
	}
	var waves []map[int]string
	for _, keys := range e.Waves {
		wave := map[int]string{}
		for k := range keyCount {
			if unit := goesTo(k, keys, exact, to); unit != "" {
				wave[k] = unit
			}
		}
		waves = append(waves, wave)
	}
	l.waves[e.Cutover] = waves
}

// goesTo is where a wave moves a key, "" if it does not.
func goesTo(k int, keys events.Share, exact map[string]string, to *routing.Rules) string {
	id := keyID(k)
	slot := routing.Slot(id, slots)
	owner := ""
	for unit, ranges := range to.Ranges() {
		for _, r := range ranges {
			if r.From <= slot && slot <= r.To {
				owner = unit
			}
		}
	}
	for unit, ids := range to.Exact() {
		for _, x := range ids {
			if x == id {
				owner = unit
			}
		}
	}
	if _, own := exact[id]; own {
		for _, x := range keys.Exact {
			if x == id {
				return owner
			}
		}
		return ""
	}
	for _, r := range keys.Slots {
		if r.From <= slot && slot <= r.To {
			return owner
		}
	}
	return ""
}
