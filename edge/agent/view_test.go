package agent

import (
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
)

var viewPeer = netip.MustParseAddr("192.0.2.8")

func viewWorld(t *testing.T) *world {
	w := newWorld(t, nil)
	w.join("bj-1", "unbj", "ws-bj", "127.0.0.1:7201")
	w.join("bj-2", "unbj", "ws-bj", "127.0.0.1:7202")
	w.join("hz-1", "center", "ws-hz", "127.0.0.1:7101")
	return w
}

func self(unit, id string) Self {
	return Self{Namespace: "demo", Unit: unit, ID: id, Directory: directoryOf(id)}
}

func TestBuildView(t *testing.T) {
	s := viewWorld(t).state
	v := BuildView(s, self("unbj", "bj-1"), Dev{})
	if v.Seq != s.Seq || v.Unit != "unbj" || v.Center != "center" || !v.Admits || v.Hold != 5*time.Second || v.CloseCode != 1012 || v.Fallback != nil {
		t.Errorf("%+v", v)
	}
	names := slices.Sorted(maps.Keys(v.Sites))
	if want := []string{"bj.example", "center.websocket.localhost", "websocket.localhost"}; !slices.Equal(names, want) {
		t.Errorf("sites %q, want %q: the domain's and its sub-domains' names, lower-case, without port", names, want)
	}
	site := v.Sites["websocket.localhost"]
	if site != v.Sites["bj.example"] || site.Scheme != "auto" || site.Type != v.Types["unit_type"] {
		t.Errorf("%+v", site)
	}
	if want := map[string]string{"center": "center.websocket.localhost", "unbj": "bj.example:81"}; !maps.Equal(site.Locations, want) {
		t.Errorf("locations %q", site.Locations)
	}
	want := []handshake.URI{{Path: "/a/b"}, {Path: "/a/", Origins: []string{"10.1.0.4:9000"}}, {Path: "/", Origins: []string{"10.1.0.1:9000", "10.1.0.2:9000"}}}
	if u := site.URIs[1]; u.ConnectTimeout != time.Second || u.ReplyTimeout != time.Minute || u.Health.Probe != "tcp" || u.Health.Rise != 2 {
		t.Errorf("%+v, want what the domain says of the path's origins", u)
	}
	if !slices.EqualFunc(site.URIs, want, func(a, b handshake.URI) bool { return a.Path == b.Path && slices.Equal(a.Origins, b.Origins) }) {
		t.Errorf("URIs %+v, want the longest first, each with this unit's origins", site.URIs)
	}
}

// R7: only the process with the state directory that the journal has registered is the edge.
func TestAdmitsOnlyWithItsOwnJoin(t *testing.T) {
	w := viewWorld(t)
	mine := self("unbj", "bj-1")
	lost := mine
	lost.Directory = directoryOf("bj-9")
	if !BuildView(w.state, mine, Dev{}).Admits || BuildView(w.state, lost, Dev{}).Admits {
		t.Error("a new state directory under an old id must not admit, the registered one must")
	}
}

func TestBuildViewTypes(t *testing.T) {
	w := viewWorld(t)
	v := BuildView(w.state, self("unbj", "bj-1"), Dev{})
	typ, bare := v.Types["unit_type"], v.Types["shop"]
	if v.Default != typ || typ.Unmarked != "local" || !typ.Local || typ.Table.Lookup("8330").Unit != "unbj" {
		t.Errorf("%+v", typ)
	}
	if want := []handshake.Source{{From: "header", Name: "routerId"}, {From: "cookie", Name: "routerId"}, {From: "query", Name: "routerId"}}; !slices.Equal(typ.Sources, want) {
		t.Errorf("sources %+v", typ.Sources)
	}
	// "Unit types without rules: every handshake 503": the handshake package says so of a nil table.
	if bare.Table != nil || bare.Local {
		t.Errorf("a type without rules: %+v", bare)
	}
	if vd := ask(t, v, "+unitType: shop", "+routerId: 1"); vd.Status != 503 {
		t.Errorf("a type without rules is answered with %d", vd.Status)
	}
	w.do(events.PutUnit{Unit: events.Unit{ID: "third"}})
	if v := BuildView(w.state, self("third", "x"), Dev{}); v.Types["unit_type"].Local {
		t.Error("a unit that owns nothing is local")
	}
}

// ask lets the handshake package decide on a handshake for the domain.
func ask(t *testing.T, v *handshake.View, fields ...string) handshake.Verdict {
	t.Helper()
	lines := []string{
		"GET / HTTP/1.1", "Host: websocket.localhost", "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}
	for _, f := range fields {
		lines = append(lines, strings.TrimPrefix(f, "+"))
	}
	req, _, err := handshake.Parse([]byte(strings.Join(lines, "\r\n") + "\r\n\r\n"))
	if err != nil || req == nil {
		t.Fatal(req, err)
	}
	return handshake.Decide(req, v, viewPeer, false)
}

// "An edge admits only with a state that holds its own join"; "a retired or left id never rejoins" (R7).
func TestAdmits(t *testing.T) {
	w := viewWorld(t)
	for _, c := range []struct {
		unit, id string
		want     bool
	}{{"unbj", "bj-1", true}, {"unbj", "bj-9", false}, {"center", "bj-1", false}} {
		if got := BuildView(w.state, self(c.unit, c.id), Dev{}).Admits; got != c.want {
			t.Errorf("%s in %s admits: %v", c.id, c.unit, got)
		}
	}
	w.do(events.RetireEdge{ID: "bj-1", Reason: "burnt"})
	w.do(events.LeaveEdge{ID: "bj-2", Directory: directoryOf("bj-2")})
	for _, id := range []string{"bj-1", "bj-2"} {
		if BuildView(w.state, self("unbj", id), Dev{}).Admits {
			t.Errorf("%s admits, though it is gone", id)
		}
	}
}

// In `dev`, "Location carries the unit's advertised address (its first edge's 127.0.0.1:PORT) instead of the sub-domain;
// an unknown Host falls to the only domain".
func TestDevView(t *testing.T) {
	w := viewWorld(t)
	v := BuildView(w.state, self("unbj", "bj-1"), Dev{AdvertisedLocations: true, FallbackHost: true})
	if want := map[string]string{"center": "127.0.0.1:7101", "unbj": "127.0.0.1:7201"}; !maps.Equal(v.Fallback.Locations, want) {
		t.Errorf("locations %q", v.Fallback.Locations)
	}
	w.do(events.RetireEdge{ID: "bj-1", Reason: "test"})
	v = BuildView(w.state, self("unbj", "bj-2"), Dev{AdvertisedLocations: true, FallbackHost: true})
	if got := v.Fallback.Locations["unbj"]; got != "127.0.0.1:7202" {
		t.Errorf("the first live edge is %s", got)
	}
	second := config().Domains[0]
	second.Host, second.Units = "other.localhost", map[string]events.DomainUnit{"center": {Cluster: "ws-hz"}, "unbj": {Cluster: "ws-bj"}}
	w.do(events.PutDomain{Domain: second})
	if BuildView(w.state, self("unbj", "bj-2"), Dev{FallbackHost: true}).Fallback == nil {
		t.Error("a draft counts as a domain")
	}
	w.do(events.ActivateDomain{Host: "other.localhost"})
	if v := BuildView(w.state, self("unbj", "bj-2"), Dev{FallbackHost: true}); v.Fallback != nil || len(v.Sites) != 6 {
		t.Errorf("two domains: fallback %v, %d sites", v.Fallback, len(v.Sites))
	}
}

// "Edges see Active only": what was activated, not the newer draft.
func TestViewIgnoresDrafts(t *testing.T) {
	w := viewWorld(t)
	d := config().Domains[0]
	d.URIs = []events.URI{{Path: "/draft", Origins: map[string]events.Origins{"unbj": {"10.9.0.1:1"}}}}
	w.do(events.PutDomain{Domain: d})
	if v := BuildView(w.state, self("unbj", "bj-1"), Dev{}); len(v.Sites["websocket.localhost"].URIs) != 3 {
		t.Error("the draft is in force")
	}
	w.do(events.ActivateDomain{Host: d.Host})
	if v := BuildView(w.state, self("unbj", "bj-1"), Dev{}); v.Sites["websocket.localhost"].URIs[0].Path != "/draft" {
		t.Error("the activated draft is not in force")
	}
}

// The table follows a cutover through all of its phases, and goes on to mark what moved until the next one starts.
// 6000 is an exact ID of unbj inside the range that moves, so it stays.
func TestViewThroughACutover(t *testing.T) {
	w := viewWorld(t)
	b := &views{self: self("unbj", "bj-1")}
	look := func(phase, want string) {
		t.Helper()
		table := b.build(w.state.Clone()).Types["unit_type"].Table
		r, stays := table.Lookup("6249"), table.Lookup("6000")
		got := fmt.Sprintf("%s>%s %v", r.Unit, r.Next, r.Moved)
		if got != want || stays.Unit != "unbj" || stays.Next != "" {
			t.Errorf("%s: %s, want %s; the exact ID: %+v", phase, got, want, stays)
		}
	}
	look("before", "unbj> false")
	id := w.begin(6381, 0)
	look("started", "unbj> false")
	w.fence(id)
	look("fenced", "unbj>center false")
	w.do(events.PauseCutover{Cutover: id})
	look("paused", "unbj> false")
	w.do(events.ResumeCutover{Cutover: id})
	w.fence(id)
	look("fenced again", "unbj>center false")
	w.commit(id)
	look("committed", "center> true")
	w.complete(id)
	look("completed", "center> true")
	w.do(events.PreviewCutover{Ranges: ranges(5998)})
	look("the next one is proposed", "center> true")
	w.begin(5998, 0)
	look("the next one is started", "center> false")
	w.fence("c3")
	w.commit("c3")
	w.complete("c3")
	for range 20 { // of two completed ones, the newest counts, in whatever order a map yields them
		b.tables = nil
		look("the next one is completed", "unbj> true")
	}
}

// A table is compiled anew only when it changes: the relay compares tables by their identity first.
func TestTablesAreReused(t *testing.T) {
	w := viewWorld(t)
	b := &views{self: self("unbj", "bj-1")}
	table := func() any { return b.build(w.state.Clone()).Types["unit_type"].Table }
	first := table()
	w.join("hz-2", "center", "ws-hz", "127.0.0.1:7102")
	if table() != first {
		t.Error("a join compiled the table anew")
	}
	id := w.begin(6381, 0)
	started := table()
	w.fence(id)
	fenced := table()
	w.join("hz-3", "center", "ws-hz", "127.0.0.1:7103")
	if started == fenced || table() != fenced {
		t.Error("a fence must compile it anew, a join while fenced must not")
	}
	if reflect.DeepEqual(started, fenced) {
		t.Error("the fence is not in the table")
	}
}

// The fencing token of a key rises when it gets another owner, also while a cutover has moved it and not yet others.
func TestRuleVersionsRise(t *testing.T) {
	w := newWorld(t, nil)
	w.join("bj-1", "unbj", "ws-bj", "127.0.0.1:7201")
	w.join("hz-1", "center", "ws-hz", "127.0.0.1:7101")
	version := func(unit, id, user string) uint64 {
		v := BuildView(w.state.Clone(), self(unit, id), Dev{})
		route, _ := v.Serves("unit_type", user)
		return v.Types["unit_type"].VersionOf(route)
	}
	if got := version("unbj", "bj-1", "6249"); got != 1 {
		t.Errorf("before: %d", got)
	}
	id := w.begin(6381, 0)
	w.fence(id)
	w.commit(id)
	if moved, stays := version("center", "hz-1", "6249"), version("unbj", "bj-1", "8330"); moved != 2 || stays != 1 {
		t.Errorf("in the middle: moved %d, not moved %d", moved, stays)
	}
	w.complete(id)
	if moved, stays := version("center", "hz-1", "6249"), version("unbj", "bj-1", "8330"); moved != 2 || stays != 2 {
		t.Errorf("at the end: moved %d, not moved %d", moved, stays)
	}
}
