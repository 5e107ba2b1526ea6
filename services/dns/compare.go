package dns

import (
	"maps"
	"slices"
	"strings"

	"github.com/libdns/libdns"
)

// markerPrefix begins the name of the TXT record that says whose a name is.
const markerPrefix = "_unitgate."

// marker is its text.
func marker(namespace string) string { return "unitgate namespace=" + namespace }

// State of a name.
type State string

// A name is as it should be, or why it is not. Only missing, different and obsolete ones are mended.
const (
	OK        State = "ok"
	Missing   State = "missing"   // there is nothing
	Different State = "different" // ours, with other records
	Foreign   State = "foreign"   // there are records without our marker: whoever made them must remove them
	Obsolete  State = "obsolete"  // ours, and not wanted any more
	Kept      State = "kept"      // ours, and what is wanted cannot be published: it stays until it can
)

// Difference is how one name stands.
type Difference struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Wanted []Set  `json:"wanted"`
	There  []Set  `json:"present"` // A, AAAA and CNAME records
}

// Compare holds what is wanted against a zone's records, by name. Names that are neither wanted nor ours are not looked at.
func Compare(namespace string, want Zone, records []libdns.Record) []Difference {
	there, owned := read(namespace, want.Name, records)
	wanted := map[string][]Set{}
	for _, s := range want.Sets {
		wanted[s.Name] = append(wanted[s.Name], s)
	}
	names := slices.Collect(maps.Keys(wanted))
	for name := range owned {
		if wanted[name] == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	out := make([]Difference, 0, len(names))
	for _, name := range names {
		d := Difference{Name: name, Wanted: sets(wanted[name]), There: sets(there[name])}
		switch {
		case slices.ContainsFunc(want.Problems, func(p Problem) bool { return p.Name == name }):
			d.State = Kept
		case len(d.Wanted) == 0:
			d.State = Obsolete
		case !owned[name] && len(d.There) > 0:
			d.State = Foreign
		case len(d.There) == 0:
			d.State = Missing
		case slices.EqualFunc(d.Wanted, d.There, func(a, b Set) bool { return a.Type == b.Type && slices.Equal(a.Values, b.Values) }):
			d.State = OK
		default:
			d.State = Different
		}
		out = append(out, d)
	}
	return out
}

func sets(s []Set) []Set {
	if s == nil {
		return []Set{}
	}
	return s
}

// read sorts a zone's records: what leads somewhere, by name and type, and which names have our marker.
func read(namespace, zone string, records []libdns.Record) (there map[string][]Set, owned map[string]bool) {
	byType := map[[2]string][]string{}
	owned = map[string]bool{}
	for _, r := range records {
		rr := r.RR()
		name := absolute(rr.Name, zone)
		switch rr.Type {
		case "A", "AAAA":
			byType[[2]string{name, rr.Type}] = append(byType[[2]string{name, rr.Type}], rr.Data)
		case "CNAME":
			byType[[2]string{name, rr.Type}] = append(byType[[2]string{name, rr.Type}], absolute(rr.Data, zone))
		case "TXT":
			if of, ok := strings.CutPrefix(name, markerPrefix); ok && strings.Trim(rr.Data, `"`) == marker(namespace) {
				owned[of] = true
			}
		}
	}
	there = map[string][]Set{}
	for _, k := range slices.SortedFunc(maps.Keys(byType), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		slices.Sort(byType[k])
		there[k[0]] = append(there[k[0]], Set{k[0], k[1], byType[k]})
	}
	return there, owned
}

// absolute is a record's name without the root's dot, in lower case. Relative ones are relative to the zone.
func absolute(name, zone string) string {
	if !strings.HasSuffix(name, ".") {
		name = libdns.AbsoluteName(name, zone+".")
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}

// change is what a difference asks for, in this order: records to delete, then to set. The marker is set before what it
// stands for and deleted after it, so that nothing of ours is ever without one.
type change struct {
	Marker *libdns.TXT // to set first
	Delete []libdns.Record
	Set    []libdns.Record
	Unmark *libdns.TXT // to delete last
}

// changeOf is how a difference is mended; false if it is not.
func changeOf(namespace, zone string, d Difference) (c change, ok bool) {
	mark := &libdns.TXT{Name: libdns.RelativeName(markerPrefix+d.Name+".", zone+"."), TTL: TTL, Text: marker(namespace)}
	switch d.State {
	case Missing, Different:
		c.Marker = mark
	case Obsolete:
		c.Unmark = mark
	default:
		return c, false
	}
	for _, s := range d.There {
		if !slices.ContainsFunc(d.Wanted, func(w Set) bool { return w.Type == s.Type }) {
			c.Delete = append(c.Delete, recordsOf(zone, s)...)
		}
	}
	for _, s := range d.Wanted {
		c.Set = append(c.Set, recordsOf(zone, s)...)
	}
	return c, true
}

func recordsOf(zone string, s Set) []libdns.Record {
	out := make([]libdns.Record, 0, len(s.Values))
	for _, v := range s.Values {
		if s.Type == "CNAME" {
			v += "."
		}
		out = append(out, libdns.RR{Name: libdns.RelativeName(s.Name+".", zone+"."), TTL: TTL, Type: s.Type, Data: v})
	}
	return out
}
