package events

import (
	"errors"

	"github.com/unitgate/unitgate/events/routing"
)

// rules builds the rule set; ranges, exact and delta are the paths of its parts.
func (c RulesConfig) rules(t UnitType, ranges, exact, delta string) (*routing.Rules, error) {
	r, err := t.Slotting().RulesOf(c.Ranges, nil) // what is wrong with the ranges comes first
	if err != nil {
		return nil, fromRouting(err, ranges, exact)
	}
	lists, err := exactLists(c.Exact, c.ExactDelta, exact, delta)
	if err != nil {
		return nil, err
	}
	if lists, err = t.keys(lists, exact); err != nil {
		return nil, err
	}
	if r, err = r.WithExact(lists); err != nil {
		return nil, fromRouting(err, ranges, exact)
	}
	return r, nil
}

// PackLists gives long ones of the lists the form in which they travel; short ones stay as they are, whatever is in them.
// field is their path, for errors.
func PackLists(lists map[string][]string, field string) (short map[string][]string, long map[string]routing.Packed, err error) {
	for unit, list := range lists {
		if len(list) <= routing.ShortList {
			if short == nil {
				short = map[string][]string{}
			}
			short[unit] = list
			continue
		}
		ids, err := routing.NewIDs(list)
		if err != nil {
			return nil, nil, fromRouting(err, field, join(field, unit))
		}
		if long == nil {
			long = map[string]routing.Packed{}
		}
		long[unit] = routing.Pack(ids)
	}
	return short, long, nil
}

// Packed is the same with long exact lists in the form in which they travel. Its errors have the paths of PlanConfig.
func (c Config) Packed() (Config, error) {
	rules := map[string]RulesConfig{}
	for ut, r := range c.Rules {
		at := "rules." + ut
		lists, err := exactLists(r.Exact, r.ExactDelta, at, at+".exactDelta")
		if err != nil {
			return c, err
		}
		r.Exact, r.ExactDelta = routing.SplitLists(lists)
		rules[ut] = r
	}
	if c.Rules != nil {
		c.Rules = rules
	}
	return c, nil
}

// exactLists joins the two forms of lists; exact and delta are their paths.
func exactLists(short map[string][]string, long map[string]routing.Packed, exact, delta string) (map[string]routing.IDs, error) {
	lists, err := routing.JoinLists(short, long)
	if l, ok := errors.AsType[*routing.ListError](err); ok && l.Packed {
		return nil, fromRouting(err, delta, join(delta, l.Unit))
	}
	if err != nil {
		return nil, fromRouting(err, exact, exact)
	}
	return lists, nil
}

// exactPatch is what a preview changes in the lists, unpacked.
type exactPatch struct{ set, add, remove map[string]routing.IDs }

func (p exactPatch) empty() bool { return p.set == nil && p.add == nil && p.remove == nil }

// inForm puts what a patch adds into the form of the type. What it removes may be in the lists as it stands, since before
// the type had that form.
func (p exactPatch) inForm(t UnitType, have map[string]routing.IDs) (_ exactPatch, err error) {
	if p.set, err = t.keys(p.set, "exact"); err != nil {
		return p, err
	}
	if p.add, err = t.keys(p.add, "exactAdd"); err != nil {
		return p, err
	}
	for _, unit := range sortedKeys(p.remove) {
		strange := p.remove[unit].Without(have[unit])
		keys, _, err := t.RouterForm().Keys(strange)
		if err != nil {
			return p, fromRouting(err, "exactRemove", join("exactRemove", unit))
		}
		p.remove[unit] = p.remove[unit].Without(strange).With(keys)
	}
	return p, nil
}

// given reports whether anything is said of exact IDs.
func (c PreviewCutover) given() bool {
	return c.Exact != nil || c.ExactDelta != nil || c.ExactAdd != nil || c.ExactAddDelta != nil || c.ExactRemove != nil || c.ExactRemoveDelta != nil
}

// lists unpacks the patch.
func (c PreviewCutover) lists() (out exactPatch, err error) {
	for _, part := range []struct {
		into  *map[string]routing.IDs
		short map[string][]string
		long  map[string]routing.Packed
		field string
	}{
		{&out.set, c.Exact, c.ExactDelta, "exact"},
		{&out.add, c.ExactAdd, c.ExactAddDelta, "exactAdd"},
		{&out.remove, c.ExactRemove, c.ExactRemoveDelta, "exactRemove"},
	} {
		if part.short == nil && part.long == nil {
			continue
		}
		if *part.into, err = exactLists(part.short, part.long, part.field, part.field+"Delta"); err != nil {
			return out, err
		}
	}
	return out, nil
}

// knowsAll tells whether there are all the units that a patch names.
func (s *State) knowsAll(c PreviewCutover) error {
	for _, part := range []struct {
		field string
		units []string
	}{
		{"exact", sortedKeys(c.Exact)}, {"exactDelta", sortedKeys(c.ExactDelta)},
		{"exactAdd", sortedKeys(c.ExactAdd)}, {"exactAddDelta", sortedKeys(c.ExactAddDelta)},
		{"exactRemove", sortedKeys(c.ExactRemove)}, {"exactRemoveDelta", sortedKeys(c.ExactRemoveDelta)},
	} {
		for _, u := range part.units {
			if err := s.knows(u, part.field); err != nil {
				return err
			}
		}
	}
	return nil
}

// over lays the patch over the lists that there are, which it may change.
func (p exactPatch) over(lists map[string]routing.IDs) (map[string]routing.IDs, error) {
	for unit := range p.set {
		_, adds := p.add[unit]
		if _, removes := p.remove[unit]; adds || removes {
			return nil, ErrBadValue.With("give %s its whole list, or what it gets and loses", unit).At("exact." + unit)
		}
	}
	for _, unit := range sortedKeys(p.remove) {
		gone := p.remove[unit]
		if strange := gone.Without(lists[unit]); strange.Len() > 0 {
			return nil, ErrBadValue.With("%d of these are not in the list of %s: %q first", strange.Len(), unit, strange.At(0)).At("exactRemove." + unit)
		}
		lists[unit] = lists[unit].Without(gone)
	}
	for _, given := range []map[string]routing.IDs{p.set, p.add} {
		for unit, ids := range given {
			for other, have := range lists {
				if other != unit {
					lists[other] = have.Without(ids)
				}
			}
		}
	}
	for unit, ids := range p.set {
		lists[unit] = ids
	}
	for unit, ids := range p.add {
		lists[unit] = lists[unit].With(ids)
	}
	return lists, nil
}
