package events

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/unitgate/unitgate/events/routing"
)

// Forms of the routerIds of a unit type, see routing.Form.
const (
	FormNormal = "normal"
	FormAsSent = "as-sent" // and "" in journals that are older than forms
	FoldLower  = "lower"
	FoldNone   = "none" // and ""
)

// RouterForm is how the type's routerIds are compared.
func (t UnitType) RouterForm() routing.Form {
	return routing.Form{Normal: t.Form == FormNormal, Fold: t.Form == FormNormal && t.Fold == FoldLower}
}

// Key is the key of a routerId of the type, however it is spelled. The error is ErrBadRouterID.
func (t UnitType) Key(id string) (string, error) {
	key, err := t.RouterForm().KeyOf(id)
	if err != nil {
		return "", ErrBadRouterID.With("%v", err).At("routerId")
	}
	return key, nil
}

func (t *UnitType) checkForm(field string) error {
	if t.Form != "" && t.Form != FormNormal && t.Form != FormAsSent {
		return ErrBadValue.With("%q: want %s or %s", t.Form, FormNormal, FormAsSent).At(join(field, "form"))
	}
	if t.Fold != "" && t.Fold != FoldLower && t.Fold != FoldNone {
		return ErrBadValue.With("%q: want %s or %s", t.Fold, FoldLower, FoldNone).At(join(field, "fold"))
	}
	if t.Form == FormAsSent && t.Fold == FoldLower {
		return ErrBadValue.With("fold is for routerIds in normal form: set form: %s", FormNormal).At(join(field, "fold"))
	}
	return nil
}

// settleForms fills in what a config does not say of forms: what is in force stays, and a new type takes the normal one.
func settleForms(have, types []UnitType) error {
	for i := range types {
		t := &types[i]
		at := slices.IndexFunc(have, func(h UnitType) bool { return h.Name == t.Name })
		if at < 0 {
			if t.Form == "" {
				t.Form = FormNormal
			}
			continue
		}
		old := have[at]
		if t.Form == "" || t.Form == FormAsSent && old.Form == "" {
			t.Form = old.Form
		}
		if (t.Fold == "" || t.Fold == FoldNone && old.Fold == "") && t.Form != FormAsSent {
			t.Fold = old.Fold
		}
		if t.Fold == FoldLower && t.Form != FormNormal {
			return ErrBadValue.With("fold is for routerIds in normal form, and unit type %q takes them as they are sent: set form: %s as well", t.Name, FormNormal).At(fmt.Sprintf("unitTypes[%d].fold", i))
		}
	}
	return nil
}

// reforms refuses a change of form that would leave users in two units. Edges apply it one after the other, and nothing
// fences the users whose key becomes another one.
func (s *State) reforms(next *State) error {
	for i, t := range next.UnitTypes {
		old, known := s.UnitType(t.Name)
		rules, ruled := s.Rules[t.Name]
		if !known || old.Name != t.Name || !ruled || old.RouterForm() == t.RouterForm() {
			continue
		}
		at := fmt.Sprintf("unitTypes[%d].form", i)
		if s.Policy.Ownership == "exclusive" || next.Policy.Ownership == "exclusive" {
			return ErrInUse.With("under exclusive ownership the form of the routerIds of %q cannot change: users whose key becomes another one would not be fenced; change to available first, then the form, then back", t.Name).At(at)
		}
		for _, unit := range rules.Current.Units() {
			list := rules.Current.ExactIDs()[unit]
			if lost, first := astray(list, t.RouterForm()); lost > 0 {
				return ErrInUse.With("%d exact IDs of %s are written in another form and would not be found any more, %q first: add them in the new form by a cutover, then change it", lost, unit, first).At(at)
			}
		}
	}
	return nil
}

// astray counts the IDs of a list whose key in a form is not in it.
func astray(list routing.IDs, f routing.Form) (n int, first string) {
	for id := range list.All() {
		if key, err := f.KeyOf(id); err == nil && (key == id || list.Has(key)) {
			continue
		}
		if n++; n == 1 {
			first = id
		}
	}
	return n, first
}

// keys puts lists of exact IDs into the type's form. field is their path.
func (t UnitType) keys(lists map[string]routing.IDs, field string) (map[string]routing.IDs, error) {
	for _, unit := range sortedKeys(lists) {
		ids, _, err := t.RouterForm().Keys(lists[unit])
		if err != nil {
			return nil, fromRouting(err, field, join(field, unit))
		}
		lists[unit] = ids
	}
	return lists, nil
}

// same reports whether a config's rules are those that there are. Since before the type had its form these may have exact
// IDs that are written otherwise.
func (t UnitType) same(r, have *routing.Rules) bool {
	f := t.RouterForm()
	if r.Equal(have) || !f.Normal {
		return r.Equal(have)
	}
	lists, err := t.keys(have.ExactIDs(), "exact")
	if err != nil {
		return false
	}
	written, err := have.WithExact(lists)
	return err == nil && r.Equal(written)
}

var anyUUID = regexp.MustCompile(`(?i)^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// formWarnings say where users may have more than one key, for those who plan a config.
func formWarnings(s *State, types []UnitType, rules map[string]*routing.Rules) []string {
	var out []string
	for _, t := range types {
		r := rules[t.Name]
		if have, ok := s.Rules[t.Name]; r == nil && ok {
			r = have.Current
		}
		if r == nil {
			continue
		}
		old, known := s.UnitType(t.Name)
		known = known && old.Name == t.Name
		differ, uuids := 0, 0
		for _, list := range r.ExactIDs() {
			for id := range list.All() {
				if key, err := (routing.Form{Normal: true, Fold: t.Fold == FoldLower}).KeyOf(id); err != nil || key != id {
					differ++
				}
				if len(id) == 36 && anyUUID.MatchString(id) {
					uuids++
				}
			}
		}
		switch {
		case known && s.Rules[t.Name].Current != nil && old.RouterForm() != t.RouterForm():
			out = append(out, fmt.Sprintf("unit type %s: the form of its routerIds changes: users who are written otherwise get another key and perhaps another unit, their sessions are closed and reconnect; %d of %d exact IDs are written otherwise", t.Name, differ, r.ExactCount()))
		case !t.RouterForm().Normal:
			out = append(out, fmt.Sprintf("unit type %s takes routerIds as they are sent: a user whose ID is percent-encoded in a cookie, or whose header was joined, has a second key; %d of %d exact IDs are written otherwise in normal form; set form: %s", t.Name, differ, r.ExactCount(), FormNormal))
		}
		if uuids > 0 && t.Fold != FoldLower {
			out = append(out, fmt.Sprintf("unit type %s: %d exact IDs are UUIDs, which some clients write in upper case and some in lower: set fold: %s to make them one", t.Name, uuids, FoldLower))
		}
	}
	return out
}

// closeWarnings: a Close frame has no room for who the client is, and cookies belong to one host.
func closeWarnings(domains []Domain, typeOf func(string) (UnitType, bool)) []string {
	var out []string
	for _, d := range domains {
		t, ok := typeOf(d.UnitType)
		if !ok || d.Correction != "close" {
			continue
		}
		has := func(from string) bool {
			return slices.ContainsFunc(t.RouterID, func(src string) bool { return strings.HasPrefix(src, from+":") })
		}
		if has("cookie") && !has("query") {
			out = append(out, fmt.Sprintf("domain %s: under correction close a client whose routerId is a cookie of one host cannot bring it to the other unit: add a query: source to unit type %s, in which the edge puts it into the URL", d.Host, t.Name))
		}
	}
	return out
}
