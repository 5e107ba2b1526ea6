package handshake

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

var testPeer = netip.MustParseAddr("192.0.2.8")

// testView is the walkthrough's namespace as an edge of a unit sees it: center has 0-5997, unbj 5998-9999 and the exact
// IDs 4001 and vip-7; a cutover to center has the slots 5998-6380 fenced if fence is set.
func testView(t testing.TB, unit string, fence bool) *View {
	t.Helper()
	rules := func(border uint32) *routing.Rules {
		r, err := routing.NewRules(10000, map[string][]routing.Range{
			"center": {{From: 0, To: border - 1}}, "unbj": {{From: border, To: 9999}},
		}, map[string][]string{"unbj": {"4001", "vip-7"}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	table := routing.Compile(rules(5998))
	if fence {
		wave := routing.Wave{Keys: routing.Keys{Slots: []routing.Range{{From: 5998, To: 6380}}}, Phase: routing.Fenced}
		table = routing.CompileCutover(rules(5998), rules(6381), []routing.Wave{wave})
	}
	sources := []Source{{From: "header", Name: "routerId"}, {From: "cookie", Name: "routerId"}, {From: "query", Name: "routerId"}}
	types := map[string]*Type{}
	for _, unmarked := range []string{"local", "reject", "split"} {
		name := "by_" + unmarked
		types[name] = &Type{Name: name, Table: table, Sources: sources, Unmarked: unmarked, Local: table.Owns(unit)}
	}
	types["ruleless"] = &Type{Name: "ruleless", Sources: sources}
	site := &Site{
		Type:      types["by_local"],
		Scheme:    "auto",
		Locations: map[string]string{"center": "center.websocket.msha.tech", "unbj": "unbj.websocket.msha.tech:81"},
		URIs: []URI{
			{Path: "/a/deep", Origins: []string{unit + ":3"}}, {Path: "/a", Origins: []string{unit + ":2"}},
			{Path: "/b/", Origins: []string{unit + ":4"}}, {Path: "/none"}, {Path: "/chat", Origins: []string{unit + ":1"}},
		},
	}
	return &View{
		Seq: 1, Unit: unit, Center: "center", Admits: true, Types: types, Default: types["by_local"],
		Sites: map[string]*Site{
			"websocket.msha.tech": site, "center.websocket.msha.tech": site, "unbj.websocket.msha.tech": site, "::1": site,
		},
		Hold: 5 * time.Second, CloseCode: 1012,
	}
}

// head is a handshake for /chat on websocket.msha.tech. Each change is a header line: it replaces those of its name, or
// removes them if its value is "-"; one with a leading "+" is added. The first one may be a request line instead.
func head(changes ...string) string {
	lines := []string{
		"GET /chat HTTP/1.1", "Host: websocket.msha.tech", "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
	}
	for _, c := range changes {
		if strings.Contains(c, " HTTP/") {
			lines[0] = c
			continue
		}
		if add, ok := strings.CutPrefix(c, "+"); ok {
			lines = append(lines, add)
			continue
		}
		name, value, _ := strings.Cut(c, ":")
		lines = slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, name+":") })
		if value != " -" {
			lines = append(lines, c)
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// decide parses raw and decides on it, as a relay does.
func decide(raw string, v *View, peer netip.Addr, tls bool) Verdict {
	req, _, err := Parse([]byte(raw))
	if err != nil {
		vd, _ := RefuseError(err)
		return vd
	}
	if req == nil {
		return Refuse(0, "incomplete", "")
	}
	return Decide(req, v, peer, tls)
}

// show is a verdict in one line.
func show(vd Verdict) string {
	switch vd.Action {
	case Serve:
		return fmt.Sprintf("serve %s %q %d at %s", vd.Type.Name, vd.RouterID, vd.Slot, vd.URI.Origins[0])
	case Hold:
		return fmt.Sprintf("hold %s %q %d", vd.Type.Name, vd.RouterID, vd.Slot)
	case Proxy:
		return vd.Code + " " + vd.Edges.Unit
	case Accept:
		return fmt.Sprintf("%d %s %s", vd.Status, vd.Code, vd.Reason)
	}
	s := fmt.Sprintf("%d %s", vd.Status, vd.Code)
	for _, f := range vd.Header {
		if f.Name == "Location" {
			s += " " + f.Value
		}
	}
	return s
}
