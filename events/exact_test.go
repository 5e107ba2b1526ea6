package events

import (
	"bytes"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/unitgate/unitgate/events/routing"
)

// phones are 100,000 different numbers of 11 digits, spread as users' numbers are.
func phones() []string {
	return run(100_000, func(i int) string { return fmt.Sprintf("1%010d", (uint64(i)*7_919_317_331)%10_000_000_000) })
}

// joinAll gives a namespace the edges and the driver of shop.
func joinAll(w *world) {
	for _, e := range []string{"hz-1", "hz-2", "bj-1", "bj-2"} {
		w.do(joinOf(e))
	}
	w.do(TakeOffice{Term: 1, Holder: "driver-a"})
}

// runCutover starts a proposed cutover and commits all its waves.
func runCutover(w *world, id string) {
	w.do(StartCutover{Cutover: id, Checks: w.checks(Pass)})
	for i := range w.s.Cutovers[id].Waves {
		w.fence(id, i)
		w.commit(id, i)
	}
	w.do(CompleteCutover{Cutover: id, Term: w.s.Office.Term})
}

func packed(ids ...string) routing.Packed { return routing.Pack(routing.MustIDs(ids...)) }

// A list of 100,000 goes through every command that takes lists, and every event that it makes fits.
func TestLongLists(t *testing.T) {
	ids := phones()
	cfg := shopConfig()
	r := cfg.Rules["unit_type"]
	r.Exact, r.ExactDelta = nil, map[string]routing.Packed{"unbj": packed(ids...)}
	cfg.Rules["unit_type"] = r
	w := newWorld(t)
	w.do(ApplyConfig{Config: cfg})
	owner := func(id, want string) {
		t.Helper()
		if got := w.s.Table("unit_type").Lookup(id); got.Unit != want {
			t.Errorf("%s belongs to %+v, want %s", id, got, want)
		}
	}
	owner(ids[77_777], "unbj")
	joinAll(w)
	size := func() int { return len(w.records[len(w.records)-1].Data) }

	w.do(walk(2)) // ranges only: the lists do not travel again
	if size() > 4<<10 {
		t.Errorf("a cutover of ranges takes %d bytes", size())
	}
	w.do(AbortCutover{Cutover: "c1"})

	w.do(PreviewCutover{ExactRemoveDelta: map[string]routing.Packed{"unbj": packed(ids[:50_000]...)}})
	p := w.do(PreviewCutover{Drain: "unbj", DrainTo: "center", Waves: 7}).(CutoverProposed)
	if p.ExactIDs() != len(ids) || len(p.ExactMoves) != routing.MaxShown || len(p.Diff) > 16<<10 {
		t.Errorf("%d exact IDs move, %d are shown, the diff has %d bytes", p.ExactIDs(), len(p.ExactMoves), len(p.Diff))
	}
	c := w.s.Cutovers[p.Cutover]
	n := 0
	for _, wave := range c.Waves {
		n += wave.Exact.Len()
	}
	if n != len(ids) || len(c.Waves) != 7 {
		t.Errorf("%d IDs in %d waves", n, len(c.Waves))
	}
	runCutover(w, p.Cutover)
	owner(ids[77_777], "center")

	w.do(PreviewCutover{ExactAdd: map[string][]string{"unbj": {ids[5]}}, ExactRemove: map[string][]string{"center": {ids[6]}}})
	if size() > 4<<10 {
		t.Errorf("two IDs of %d take %d bytes", len(ids), size())
	}
	w.do(PreviewCutover{ExactDelta: map[string]routing.Packed{"unbj": packed(ids[:50_000]...)}})
	w.do(RollbackCutover{Cutover: p.Cutover})

	again := NewState()
	for _, rec := range w.records {
		if err := again.Apply(rec); err != nil {
			t.Fatal(err)
		}
	}
	b := w.s.Encode()
	if string(b) != string(again.Encode()) {
		t.Error("two folds differ")
	}
	s, err := DecodeState(b)
	if err != nil || s.Hash() != w.s.Hash() {
		t.Fatalf("the state does not read back: %v", err)
	}
	if s.Rules["unit_type"].Current.ExactCount() != len(ids) {
		t.Error("exact IDs are lost")
	}
	w.s = s // and goes on
	w.do(AbortCutover{Cutover: "c4"})
}

// The patches of a preview: whole lists, what they get and what they lose, in either form or both.
func TestExactPatches(t *testing.T) {
	for _, c := range []struct {
		name string
		p    PreviewCutover
		want string // the lists then
		err  *Error
		at   string
	}{
		{"set", PreviewCutover{Exact: map[string][]string{"unbj": {"9"}}}, "center=[] unbj=[9]", nil, ""},
		{"set packed", PreviewCutover{ExactDelta: map[string]routing.Packed{"unbj": packed("9", "x")}}, "center=[] unbj=[9 x]", nil, ""},
		{"set in both forms", PreviewCutover{Exact: map[string][]string{"unbj": {"9"}}, ExactDelta: map[string]routing.Packed{"unbj": packed("x")}}, "center=[] unbj=[9 x]", nil, ""},
		{"an ID in both forms", PreviewCutover{Exact: map[string][]string{"unbj": {"x"}}, ExactDelta: map[string]routing.Packed{"unbj": packed("x")}}, "", ErrExactConflict, "exactDelta.unbj"},
		{"empty", PreviewCutover{ExactDelta: map[string]routing.Packed{"unbj": packed()}}, "center=[] unbj=[]", nil, ""},
		{"add", PreviewCutover{ExactAdd: map[string][]string{"center": {"4001", "5"}}}, "center=[5 4001] unbj=[vip-7]", nil, ""},
		{"add packed", PreviewCutover{ExactAddDelta: map[string]routing.Packed{"unbj": packed("8001", "1")}}, "center=[] unbj=[1 4001 8001 vip-7]", nil, ""},
		{"remove", PreviewCutover{ExactRemove: map[string][]string{"unbj": {"4001"}}}, "center=[] unbj=[vip-7]", nil, ""},
		{"remove packed", PreviewCutover{ExactRemoveDelta: map[string]routing.Packed{"unbj": packed("4001")}}, "center=[] unbj=[vip-7]", nil, ""},
		{"add and remove", PreviewCutover{ExactAdd: map[string][]string{"center": {"vip-7"}}, ExactRemove: map[string][]string{"unbj": {"4001"}}}, "center=[vip-7] unbj=[]", nil, ""},
		{"remove what is not there", PreviewCutover{ExactRemove: map[string][]string{"unbj": {"1", "4001"}}}, "", ErrBadValue, "exactRemove.unbj"},
		{"set and add", PreviewCutover{Exact: map[string][]string{"unbj": {"1"}}, ExactAdd: map[string][]string{"unbj": {"2"}}}, "", ErrBadValue, "exact.unbj"},
		{"add to two", PreviewCutover{ExactAdd: map[string][]string{"unbj": {"2"}, "center": {"2"}}}, "", ErrExactConflict, "exact"},
		{"unknown unit", PreviewCutover{ExactAddDelta: map[string]routing.Packed{"mars": packed("2")}}, "", ErrUnknownUnit, "exactAddDelta.mars"},
		{"unknown unit loses", PreviewCutover{ExactRemove: map[string][]string{"mars": {"2"}}}, "", ErrUnknownUnit, "exactRemove.mars"},
		{"no packed list", PreviewCutover{ExactDelta: map[string]routing.Packed{"unbj": {1, 2}}}, "", ErrBadValue, "exactDelta.unbj"},
		{"a bad ID in it", PreviewCutover{ExactDelta: map[string]routing.Packed{"unbj": {1, 0, 1, 0, 1, ' '}}}, "", ErrBadRouterID, "exactDelta.unbj"},
		{"a bad ID to add", PreviewCutover{ExactAdd: map[string][]string{"unbj": {"a b"}}}, "", ErrBadRouterID, "exactAdd"},
		{"with a drain", PreviewCutover{Drain: "unbj", ExactAddDelta: map[string]routing.Packed{"center": packed("2")}}, "", ErrBadValue, "drain"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := shop(t)
			if c.err != nil {
				w.refuse(c.p, c.err, c.at)
				return
			}
			p := w.do(c.p).(CutoverProposed)
			lists := w.s.Cutovers[p.Cutover].To.Exact()
			if got := fmt.Sprintf("center=%v unbj=%v", lists["center"], lists["unbj"]); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// More than MaxExact IDs are refused whatever the way, and the field says where.
func TestTooManyExact(t *testing.T) {
	ids := run(routing.MaxExact, func(i int) string { return fmt.Sprint(i) })
	w := shop(t)
	w.do(ApplyConfig{Base: w.s.ConfigVersion, Config: Config{Namespace: "shop", UnitTypes: []UnitType{{Name: "shops", Slots: 4}}}})
	ranges := map[string][]routing.Range{"center": {{From: 0, To: 3}}}
	w.refuse(InitRules{UnitType: "shops", RulesConfig: RulesConfig{Ranges: ranges, Exact: map[string][]string{"unbj": append(slices.Clone(ids), "one-more")}}}, ErrTooLarge, "exact")
	w.refuse(InitRules{UnitType: "shops", RulesConfig: RulesConfig{Ranges: ranges, Exact: map[string][]string{"unbj": {"one-more"}}, ExactDelta: map[string]routing.Packed{"center": packed(ids...)}}}, ErrTooLarge, "exact")
	w.do(InitRules{UnitType: "shops", RulesConfig: RulesConfig{Ranges: ranges, ExactDelta: map[string]routing.Packed{"center": packed(ids...)}}})
	w.refuse(PreviewCutover{UnitType: "shops", ExactAdd: map[string][]string{"unbj": {"one-more"}}}, ErrTooLarge, "exact")
	w.do(PreviewCutover{UnitType: "shops", ExactAdd: map[string][]string{"unbj": {"5"}}})
}

// printable is text in which nothing repeats, so that no packing makes it shorter, and which JSON writes as it is.
func printable(r *rand.Rand, n int) string {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_.:,;!#$%()*+/=?@[]^{|}~`'"
	b := make([]byte, n)
	for i := range b {
		b[i] = letters[r.IntN(len(letters))]
	}
	return string(b)
}

// An event of exactly MaxEventSize is stored, one byte more is not, whatever the command.
func TestEventSizeBorder(t *testing.T) {
	w := shop(t)
	r := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct {
		name  string
		event func(filling string) Event
	}{
		{"HookCalled", func(s string) Event { return HookCalled{Result: HookResult{Message: s}} }},
		{"UnitPut", func(s string) Event { return UnitPut{Unit{ID: "x", Name: s}} }},
		{"ConfigApplied", func(s string) Event {
			return ConfigApplied{Namespace: "shop", Changes: Changes{Units: []Unit{{ID: "x", Name: s}}}}
		}},
		{"RulesInitialized", func(s string) Event { return RulesInitialized{UnitType: s} }},
		{"CutoverProposed", func(s string) Event { return CutoverProposed{Diff: s} }},
	} {
		one, err := json.Marshal(c.event("x"))
		if err != nil {
			t.Fatal(err)
		}
		for more, want := range []error{nil, ErrTooLarge} {
			e := c.event(printable(r, MaxEventSize-len(one)+1+more))
			rec, err := NewRecord(w.s, w.envelope(PutUnit{}), e, w.now)
			if !errors.Is(err, want) || want == nil && len(rec.Data) != MaxEventSize {
				t.Errorf("%s, %d bytes over: %d bytes, %v", c.name, more, len(rec.Data), err)
			}
		}
	}
}

// A large event is packed and read again; what is none is refused, and takes no more memory than an event may.
func TestPackedEvents(t *testing.T) {
	cfg := shopConfig()
	for i := range 400 {
		d := shopDomain()
		d.Host = fmt.Sprintf("shop-%03d.example", i)
		d.Units = map[string]DomainUnit{"center": {Cluster: "ws-hz-2"}, "unbj": {Cluster: "ws-bj-2"}}
		cfg.Domains = append(cfg.Domains, d)
	}
	w := newWorld(t)
	w.do(ApplyConfig{Config: cfg})
	rec := w.records[0]
	if plain := rec.JSON(); !IsPacked(rec.Data) || len(rec.Data) > len(plain)/4 || !json.Valid(plain) {
		t.Errorf("%d bytes of %d: %.40s", len(rec.Data), len(plain), rec.Data)
	}
	if len(w.s.Domains) != 401 {
		t.Errorf("%d domains", len(w.s.Domains))
	}
	data, err := json.Marshal(ApplyConfig{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	c, err := DecodeCommand("config", "apply", Pack(data))
	if err != nil || len(c.(ApplyConfig).Config.Domains) != 401 {
		t.Errorf("the packed command is read as %T, %v", c, err)
	}

	deflated := func(data []byte) []byte {
		var b bytes.Buffer
		fw, _ := flate.NewWriter(&b, 9)
		_, _ = fw.Write(data)
		_ = fw.Close()
		return b.Bytes()
	}
	wrap := func(b []byte) string { return `{"packed":"` + base64.StdEncoding.EncodeToString(b) + `"}` }
	bomb := wrap(deflated(bytes.Repeat([]byte(" "), 64<<20)))
	for name, bad := range map[string]string{
		"no base64": `{"packed":"!"}`, "no DEFLATE": wrap([]byte("xxxx")), "cut off": wrap(deflated([]byte(`{"id":"x"}`))[:5]),
		"something behind it": wrap(append(deflated([]byte(`{"id":"x"}`)), 0)), "another key": `{"packed":"","id":"x"}`, "twice": wrap(deflated([]byte(wrap(deflated([]byte(`{"id":"x"}`)))))),
		"behind the value": wrap(deflated([]byte(`{"id":"x"}`))) + "{}", "a bomb": bomb, "null": `{"packed":null}`, "a number": ` { "packed": 5}`,
	} {
		if err := w.s.Clone().Apply(forge(w.s, "UnitPut", bad)); err == nil {
			t.Errorf("%s: it is taken for an event", name)
		}
		_, err := DecodeCommand("rules", "init", []byte(bad))
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != "bad_value" && e.Code != "bad_command" || e.Message == "" {
			t.Errorf("%s: as a command: %v", name, err)
		}
	}
	if len(bomb) > 100<<10 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
}

// Rule sets that have the same long lists share them, also after a state was read, and none gets those of another one.
func TestStateSharesLists(t *testing.T) {
	ids := run(5000, func(i int) string { return fmt.Sprintf("%x", sha256.Sum256([]byte{byte(i), byte(i >> 8)}))[:12] + "-" })
	cfg := shopConfig()
	cfg.Rules["unit_type"] = RulesConfig{Ranges: cfg.Rules["unit_type"].Ranges, ExactDelta: map[string]routing.Packed{"unbj": packed(ids...)}}
	w := newWorld(t)
	w.do(ApplyConfig{Config: cfg})
	joinAll(w)
	one := len(w.s.Encode())
	for n := range 20 {
		w.do(walk(1))
		w.do(AbortCutover{Cutover: fmt.Sprintf("c%d", n+1)})
	}
	if got := len(w.s.Encode()); got > one+20*2500 {
		t.Errorf("20 cutovers of ranges made %d bytes of %d", got, one)
	}
	gone := ids[slices.IndexFunc(ids, func(id string) bool {
		return w.s.Rules["unit_type"].Current.SlotOwner(routing.Slot(id, 10000)) == "center"
	})]
	w.do(PreviewCutover{ExactRemove: map[string][]string{"unbj": {gone}}})
	s, err := DecodeState(w.s.Encode())
	if err != nil {
		t.Fatal(err)
	}
	c := s.Cutovers["c21"]
	if _, listed := c.To.Owner(gone); listed || c.To.ExactCount() != len(ids)-1 || c.From.ExactCount() != len(ids) {
		t.Errorf("%d IDs before and %d after", c.From.ExactCount(), c.To.ExactCount())
	}
	for _, bad := range []struct{ old, new string }{
		{`"exactLists":{"`, `"exactLists":{"0`}, // the list is filed under another hash
		{`"exactLists":{`, `"exactLists":{"00":{"unbj":"AQAA"},`},
		{`"unbj":"AQ`, `"center":"AQ`},
	} {
		b := strings.Replace(string(w.s.Encode()), bad.old, bad.new, 1)
		if strings.Count(b, bad.new) == 0 {
			b = strings.ReplaceAll(string(w.s.Encode()), bad.old, bad.new)
		}
		if _, err := DecodeState([]byte(b)); err == nil {
			t.Errorf("%s is taken for %s", bad.new, bad.old)
		}
	}
	r := fmt.Sprintf(`{"unitType":"unit_type","rules":{"slots":10000,"ranges":{"center":["0-9999"]},"exactLists":%q}}`, strings.Repeat("5a", 32))
	if err := s.Apply(forge(s, "RulesInitialized", r)); err == nil {
		t.Error("an event may name lists that stand elsewhere")
	}
}
