package events

import "slices"

// Entities are the entities that records may be about, sorted.
func Entities() []string {
	var out []string
	for _, e := range entries() {
		out = append(out, e.entity)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
