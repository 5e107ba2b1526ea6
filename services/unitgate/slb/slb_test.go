package slb_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/unitgate/slb"
)

// recorded makes load balancers of "id cluster address".
func recorded(lines ...string) map[string]events.LoadBalancer {
	out := map[string]events.LoadBalancer{}
	for _, l := range lines {
		f := strings.Fields(l)
		out[f[0]] = events.LoadBalancer{ID: f[0], Cluster: f[1], Address: f[2]}
	}
	return out
}

func text(list []events.LoadBalancer) []string {
	out := []string{}
	for _, l := range list {
		out = append(out, fmt.Sprint(l.ID, " ", l.Cluster, " ", l.Address))
	}
	return out
}

func everything(string) bool { return true }

func TestCompare(t *testing.T) {
	one := func(id, cluster string, addresses ...string) slb.Reported {
		return slb.Reported{ID: id, Cluster: cluster, Addresses: addresses, Place: "service x/" + id, Marked: cluster != ""}
	}
	named := one("a", "", "192.0.2.1")
	named.Marked = true
	for _, c := range []struct {
		name     string
		recorded []string
		reported []slb.Reported
		covers   func(string) bool
		prune    bool
		want     []string
		goes     bool
		note     string
		err      *events.Error
	}{
		{name: "new", reported: []slb.Reported{one("a", "hz", "192.0.2.1")}, want: []string{"a hz 192.0.2.1"}},
		{name: "as it is", recorded: []string{"a hz 192.0.2.1"}, reported: []slb.Reported{one("a", "", "192.0.2.1")}, want: []string{"a hz 192.0.2.1"}},
		{name: "another address", recorded: []string{"a hz 192.0.2.1"}, reported: []slb.Reported{one("a", "", "192.0.2.2")}, want: []string{"a hz 192.0.2.2"}},
		{name: "another cluster", recorded: []string{"a hz 192.0.2.1"}, reported: []slb.Reported{one("a", "bj", "192.0.2.1")}, want: []string{"a bj 192.0.2.1"}},
		{name: "several addresses", reported: []slb.Reported{one("a", "hz", "192.0.2.9", "192.0.2.1", "192.0.2.9")}, want: []string{"a hz 192.0.2.1", "a-2 hz 192.0.2.9"}},
		{name: "one of several changes", recorded: []string{"a hz 192.0.2.1", "a-2 hz 192.0.2.9"}, reported: []slb.Reported{one("a", "", "192.0.2.9", "192.0.2.5")}, want: []string{"a hz 192.0.2.5", "a-2 hz 192.0.2.9"}},
		{name: "one of several goes", recorded: []string{"a hz 192.0.2.1", "a-2 hz 192.0.2.9"}, reported: []slb.Reported{one("a", "", "192.0.2.9")}, prune: true, want: []string{"a-2 hz 192.0.2.9"}, goes: true},
		{name: "gone, without prune", recorded: []string{"a hz 192.0.2.1"}, want: []string{"a hz 192.0.2.1"}, note: "a is not reported any more: --prune"},
		{name: "gone", recorded: []string{"a hz 192.0.2.1", "b hz 192.0.2.2"}, reported: []slb.Reported{one("b", "", "192.0.2.2")}, prune: true, want: []string{"b hz 192.0.2.2"}, goes: true},
		{name: "all gone", recorded: []string{"a hz 192.0.2.1"}, prune: true, want: []string{}, goes: true},
		{name: "not the source's affair", recorded: []string{"a hz 192.0.2.1"}, covers: func(string) bool { return false }, prune: true, want: []string{"a hz 192.0.2.1"}},
		{name: "no address yet", recorded: []string{"a hz 192.0.2.1", "a-2 hz 192.0.2.2"}, reported: []slb.Reported{one("a", "")}, prune: true, want: []string{"a hz 192.0.2.1", "a-2 hz 192.0.2.2"}, note: "no address yet"},
		{name: "somebody else's", reported: []slb.Reported{one("a", "", "192.0.2.1")}, want: []string{}, note: "service x/a is not ours"},
		{name: "one has no address yet, another changes whose name is like a second of it", recorded: []string{"a hz 192.0.2.1", "a-2 bj 192.0.2.2"}, reported: []slb.Reported{one("a", "hz"), one("a-2", "bj", "192.0.2.3")},
			want: []string{"a hz 192.0.2.1", "a-2 bj 192.0.2.3"}, note: "no address yet"},
		{name: "such two change places", recorded: []string{"a hz 192.0.2.1", "a-2 bj 192.0.2.2"}, reported: []slb.Reported{one("a", "hz", "192.0.2.2"), one("a-2", "bj", "192.0.2.1")},
			want: []string{"a hz 192.0.2.2", "a-2 bj 192.0.2.1"}},
		{name: "asked for one of them, its second address goes", recorded: []string{"a hz 192.0.2.1", "a-2 hz 192.0.2.2", "b hz 192.0.2.3"}, reported: []slb.Reported{one("a", "hz", "192.0.2.1")},
			covers: func(string) bool { return false }, prune: true, want: []string{"a hz 192.0.2.1", "b hz 192.0.2.3"}, goes: true},
		{name: "no cluster", reported: []slb.Reported{named}, err: slb.ErrNoCluster},
		{name: "twice", reported: []slb.Reported{one("a", "hz", "192.0.2.1"), one("a", "hz", "192.0.2.2")}, err: slb.ErrSource},
		{name: "one's second address, another's name", reported: []slb.Reported{one("a", "hz", "192.0.2.1", "192.0.2.2"), one("a-2", "hz", "192.0.2.3")}, err: slb.ErrSource},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.covers == nil {
				c.covers = everything
			}
			got, err := slb.Compare(recorded(c.recorded...), c.reported, c.covers, c.prune)
			if c.err != nil {
				if !c.err.Is(err) || !strings.Contains(err.Error(), "service x/a") {
					t.Fatalf("%v, want %s that names the service", err, c.err.Code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if g := text(got.LoadBalancers); !slices.Equal(g, c.want) || got.Prune != c.goes {
				t.Errorf("%q, prune %v; want %q, %v", g, got.Prune, c.want, c.goes)
			}
			if n := strings.Join(got.Notes, "; "); (n == "") != (c.note == "") || !strings.Contains(n, c.note) {
				t.Errorf("notes %q, want %q", n, c.note)
			}
		})
	}
}

// Whatever was recorded and is reported: with prune, what is recorded afterwards has exactly the reported addresses, the
// same again changes nothing, and an address that stays keeps its id.
func TestCompareSettles(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	have := map[string]events.LoadBalancer{}
	for range 2000 {
		var reported []slb.Reported
		want := map[string]int{}
		for _, id := range []string{"a", "b", "c"} {
			rep := slb.Reported{ID: id, Cluster: []string{"hz", "bj"}[r.IntN(2)], Place: id, Marked: true}
			for range 1 + r.IntN(3) {
				rep.Addresses = append(rep.Addresses, fmt.Sprintf("192.0.2.%d", r.IntN(4)))
			}
			for _, a := range slices.Compact(slices.Sorted(slices.Values(rep.Addresses))) {
				want[id+" "+a]++
			}
			if r.IntN(4) > 0 {
				reported = append(reported, rep)
			} else {
				for _, a := range rep.Addresses {
					delete(want, id+" "+a)
				}
			}
		}
		got, err := slb.Compare(have, reported, everything, true)
		if err != nil {
			t.Fatal(err)
		}
		next := map[string]events.LoadBalancer{}
		for _, l := range got.LoadBalancers {
			next[l.ID] = l
			base, _, _ := strings.Cut(l.ID, "-")
			want[base+" "+l.Address]--
			for _, was := range have {
				if b, _, _ := strings.Cut(was.ID, "-"); b == base && was.Address == l.Address && was.ID != l.ID {
					if now, ok := next[was.ID]; !ok || now.Address != was.Address {
						t.Fatalf("%s of %s became %s", was.Address, was.ID, l.ID)
					}
				}
			}
		}
		for k, n := range want {
			if n != 0 {
				t.Fatalf("%s: %d; %q of %v", k, n, text(got.LoadBalancers), reported)
			}
		}
		again, err := slb.Compare(next, reported, everything, true)
		if err != nil || again.Prune || !slices.Equal(text(again.LoadBalancers), text(got.LoadBalancers)) {
			t.Fatalf("%q, then %q, %v", text(got.LoadBalancers), text(again.LoadBalancers), err)
		}
		have = next
	}
}

func TestFile(t *testing.T) {
	for name, c := range map[string]struct {
		content string
		n       int
		err     string
	}{
		"yaml":        {"- {id: a, cluster: hz, address: 192.0.2.1}\n- {id: b, address: slb.example}\n", 2, ""},
		"json":        {`[{"id":"a","cluster":"hz","address":"192.0.2.1"}]`, 1, ""},
		"empty":       {"", 0, ""},
		"unknown key": {"- {id: a, addr: x}\n", 0, "addr"},
		"no address":  {"- {id: a}\n", 0, "entry 0: id and address are required"},
		"no list":     {"id: a\n", 0, "want a list"},
		"two":         {"- {id: a, address: x}\n---\n- {id: b, address: y}\n", 0, "want one list"},
		"no YAML":     {"- {id: a\n", 0, "want a list"},
	} {
		path := filepath.Join(t.TempDir(), "lbs")
		if err := os.WriteFile(path, []byte(c.content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := slb.File{Path: path}.Read(t.Context())
		if (err == nil) != (c.err == "") || err != nil && (!strings.Contains(err.Error(), c.err) || !slb.ErrSource.Is(err)) || len(got) != c.n {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	if _, err := (slb.File{Path: "/nowhere"}).Read(t.Context()); !slb.ErrSource.Is(err) {
		t.Error(err)
	}
}
