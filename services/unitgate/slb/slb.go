// Package slb holds the recorded load balancers against those that a provider reports: a file, or the Services of a
// Kubernetes namespace. It changes nothing: Compare says what should be recorded, and the CLI sends it.
//
// Sources may be read by any number of goroutines; Compare is pure.
package slb

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/unitgate/unitgate/events"
)

// Reported is one load balancer as a provider knows it.
type Reported struct {
	ID        string   // under which it is recorded; with several addresses the others are ID-2, ID-3, …
	Cluster   string   // "": the provider does not say, and the recorded one counts
	Addresses []string // none: it is there and has no address yet
	Place     string   // where the provider has it, for people: "service edge/ws-hz"
	Marked    bool     // it is meant for us: the provider says so, or it was asked for by name
}

// Source is where load balancers are read.
type Source interface {
	// Read lists what the provider has at this moment.
	Read(ctx context.Context) ([]Reported, error)
	// Covers tells whether a recorded one that Read does not list is gone: the source would list it. Of one that it lists it
	// lists all addresses in any case.
	Covers(id string) bool
}

// ErrSource says that a provider could not be read, or that what it reports cannot be used.
var ErrSource = &events.Error{Code: "slb_source"}

// ErrNoCluster says that nobody knows which cluster a load balancer stands before.
var ErrNoCluster = &events.Error{Code: "slb_no_cluster"}

// Compared is what came of a comparison.
type Compared struct {
	LoadBalancers []events.LoadBalancer // that should be recorded, sorted by id
	Prune         bool                  // something goes: those that are not in the list
	Notes         []string              // what is left as it is although it differs, and why
}

// Compare says what should be recorded. A recorded load balancer that is not reported goes only with prune, and only if the
// source would have listed it; one whose provider has no address for it yet stays as it is.
func Compare(recorded map[string]events.LoadBalancer, reported []Reported, covers func(id string) bool, prune bool) (Compared, error) {
	var out Compared
	next := map[string]events.LoadBalancer{}
	claimed := map[string]string{} // id -> place
	kept := map[string]bool{}
	listed := map[string]bool{} // by these ids, so that "a-2" of one's own name is no second address of "a"
	for _, r := range reported {
		listed[r.ID] = true
	}
	known := map[string]bool{} // recorded ones of which the source has said something
	for _, r := range reported {
		have := slices.DeleteFunc(family(recorded, r.ID), func(l events.LoadBalancer) bool { return l.ID != r.ID && listed[l.ID] })
		cluster := r.Cluster
		if cluster == "" && len(have) > 0 {
			cluster = have[0].Cluster
		}
		for _, l := range have {
			known[l.ID] = true
		}
		switch {
		case cluster == "" && !r.Marked:
			out.Notes = append(out.Notes, r.Place+" is not ours: it names no cluster and is not recorded")
			continue
		case cluster == "":
			return Compared{}, ErrNoCluster.With("%s does not say which cluster it stands before, and %q is not recorded: name it there, or record it once", r.Place, r.ID)
		case len(r.Addresses) == 0:
			out.Notes = append(out.Notes, r.Place+" has no address yet: what is recorded stays")
			for _, l := range have {
				kept[l.ID] = true
			}
		}
		for _, l := range named(r, cluster, have) {
			if other, ok := claimed[l.ID]; ok {
				return Compared{}, ErrSource.With("%s and %s are both to be recorded as %q", other, r.Place, l.ID)
			}
			claimed[l.ID] = r.Place
			next[l.ID] = l
		}
	}
	for _, id := range slices.Sorted(keysOf(recorded)) {
		if _, ok := next[id]; ok || kept[id] {
			continue
		}
		switch {
		case !known[id] && !covers(id):
		case prune:
			out.Prune = true
			continue
		default:
			out.Notes = append(out.Notes, fmt.Sprintf("load balancer %s is not reported any more: --prune removes it", id))
		}
		next[id] = recorded[id]
	}
	for id := range kept {
		next[id] = recorded[id]
	}
	for _, l := range next {
		out.LoadBalancers = append(out.LoadBalancers, l)
	}
	slices.SortFunc(out.LoadBalancers, func(a, b events.LoadBalancer) int { return cmp.Compare(a.ID, b.ID) })
	return out, nil
}

func keysOf(m map[string]events.LoadBalancer) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// family are the recorded ones of a reported load balancer, in order: that with its id, then ID-2, ID-3, ….
func family(recorded map[string]events.LoadBalancer, id string) []events.LoadBalancer {
	var out []events.LoadBalancer
	for _, l := range recorded {
		if number(id, l.ID) > 0 {
			out = append(out, l)
		}
	}
	slices.SortFunc(out, func(a, b events.LoadBalancer) int { return cmp.Compare(number(id, a.ID), number(id, b.ID)) })
	return out
}

// member is the id of the n-th address.
func member(id string, n int) string {
	if n == 1 {
		return id
	}
	return fmt.Sprintf("%s-%d", id, n)
}

// number is the n of a member, 0 if it is none.
func number(id, of string) int {
	if id == of {
		return 1
	}
	suffix, _ := strings.CutPrefix(of, id+"-")
	n, err := strconv.Atoi(suffix)
	if err != nil || n < 2 || member(id, n) != of {
		return 0
	}
	return n
}

// named gives the addresses their ids. One that is recorded keeps its id, so that a change of one of them is no change of
// the others.
func named(r Reported, cluster string, have []events.LoadBalancer) []events.LoadBalancer {
	addresses := slices.Compact(slices.Sorted(slices.Values(r.Addresses)))
	var out []events.LoadBalancer
	taken := map[string]bool{}
	var fresh []string
	for _, a := range addresses {
		i := slices.IndexFunc(have, func(l events.LoadBalancer) bool { return strings.EqualFold(l.Address, a) })
		if i < 0 {
			fresh = append(fresh, a)
			continue
		}
		taken[have[i].ID] = true
		out = append(out, events.LoadBalancer{ID: have[i].ID, Cluster: cluster, Address: a})
	}
	n := 1
	for _, a := range fresh {
		for taken[member(r.ID, n)] {
			n++
		}
		id := member(r.ID, n)
		taken[id] = true
		out = append(out, events.LoadBalancer{ID: id, Cluster: cluster, Address: a})
	}
	return out
}
