package events

import (
	"encoding/json"
	"fmt"
	"slices"
)

// FieldChange is one field of a domain that differs between two versions.
type FieldChange struct {
	Field   string `json:"field"`             // path as errors have it: "units.unbj.cluster", "uris[/chat].connectTimeout"
	Was     any    `json:"was,omitempty"`     // nil: it is not there
	Becomes any    `json:"becomes,omitempty"` // nil: it goes
}

// DiffDomains is what differs between two versions of a domain, by path. A nil version has no fields. URIs are told apart
// by their path, so that another order is no difference.
func DiffDomains(was, becomes *Domain) []FieldChange {
	var out []FieldChange
	diffFields("", domainFields(was), domainFields(becomes), &out)
	return out
}

// domainFields is a domain as nested objects, with its URIs by path.
func domainFields(d *Domain) map[string]any {
	if d == nil {
		return nil
	}
	b, err := json.Marshal(d)
	fields := map[string]any{}
	if err == nil {
		err = json.Unmarshal(b, &fields)
	}
	if err != nil {
		panic(err) // every field of a Domain marshals
	}
	delete(fields, "uris")
	for _, u := range d.URIs {
		b, err := json.Marshal(u)
		uri := map[string]any{}
		if err == nil {
			err = json.Unmarshal(b, &uri)
		}
		if err != nil {
			panic(err)
		}
		delete(uri, "path")
		fields[fmt.Sprintf("uris[%s]", u.Path)] = uri
	}
	return fields
}

func diffFields(at string, was, becomes map[string]any, out *[]FieldChange) {
	keys := slices.Concat(sortedKeys(was), sortedKeys(becomes))
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		field, a, b := join(at, k), was[k], becomes[k]
		x, isObject := a.(map[string]any)
		y, alsoObject := b.(map[string]any)
		switch {
		case (isObject || a == nil) && (alsoObject || b == nil):
			if len(x)+len(y) == 0 && (a == nil) != (b == nil) { // an object without fields comes or goes
				*out = append(*out, FieldChange{field, a, b})
				continue
			}
			diffFields(field, x, y, out)
		case a != b: // both are plain values: a domain has no other lists than its URIs
			*out = append(*out, FieldChange{field, a, b})
		}
	}
}
