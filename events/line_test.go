package events

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

// hidden are characters that a reader does not see, or that turn what is around them.
var hidden = map[string]string{
	"right-to-left override": "\u202e", "isolate": "\u2066", "line separator": "\u2028", "paragraph separator": "\u2029",
	"no width": "\u200b", "joiner": "\u200d", "byte order mark": "\ufeff", "soft hyphen": "\u00ad", "word joiner": "\u2060",
	"tag": "\U000e0041", "Hangul filler": "\u3164", "C1": "\u0085", "NUL": "\x00", "newline": "\n", "grapheme joiner": "\u034f",
}

// Wherever a command takes a line, it takes none in which something cannot be seen; what a reader sees is taken.
func TestLinesCanBeSeen(t *testing.T) {
	w := shop(t)
	for name, c := range hidden {
		bad := "a" + c + "b"
		env := w.envelope(PutUnit{Unit{ID: "x"}})
		env.Actor = bad
		_, err := w.tryEnvelope(env)
		w.refused(name, err, ErrBadValue, "actor")
		env = w.envelope(PutUnit{Unit{ID: "x"}})
		env.Reason = bad
		_, err = w.tryEnvelope(env)
		w.refused(name, err, ErrBadValue, "reason")
		_, err = w.try(RetireEdge{ID: "center-1", Reason: bad})
		w.refused(name, err, ErrBadValue, "reason")
		_, err = w.try(PutUnit{Unit{ID: "x", Name: bad}})
		w.refused(name, err, ErrBadValue, "name")
		_, err = w.try(ApplyConfig{Base: w.s.ConfigVersion, Config: Config{Namespace: "shop", Units: []Unit{{ID: "x", Name: bad}}}})
		w.refused(name, err, ErrBadValue, "units[0].name")
		w.refused(name, EvictQuestion{RouterID: "1", Actor: bad}.Check(), ErrBadValue, "actor")
		w.refused(name, EvictQuestion{RouterID: "1", Reason: bad}.Check(), ErrBadValue, "reason")
		if got := Line(bad); got != "ab" {
			t.Errorf("%s: of the line is made %q", name, got)
		}
	}
	for _, good := range []string{"杭州中心", "Zürich (ЦОД №1) — “west”", "北京单元 ☁️", "مركز", "a\u00a0b", "می\u200cخواهم", "क्\u200dष", "👩\u200d💻", "❤\ufe0f\u200d🔥"} {
		if _, err := w.try(PutUnit{Unit{ID: "x", Name: good}}); err != nil {
			t.Errorf("%q: %v", good, err)
		}
		if got := Line(good); got != good && !strings.ContainsAny(good, "\u200c\u200d") {
			t.Errorf("of the line %q is made %q", good, got)
		}
	}
	for _, bad := range []string{"a\u200cb", "ж\u200dж", "\u200d👩", "👩\u200d", "👩\u200d\u200d💻", "👩\u200dx"} {
		_, err := w.try(PutUnit{Unit{ID: "x", Name: bad}})
		w.refused(bad, err, ErrBadValue, "name")
	}
	if got := Line(strings.Repeat("界", 200)); len(got) > maxText || !strings.HasSuffix(got, "界…") || checkLine(got, "") != nil {
		t.Errorf("a long line becomes %d bytes: %q", len(got), got)
	}
}

// A journal from before holds lines that no command could write today, and actors that nobody may take: it reads as ever.
func TestOldLinesReplay(t *testing.T) {
	w := shop(t)
	for _, actor := range []string{"", "driver", "edge/center-1", "a\u202eb", "a\u2028b"} {
		rec := forge(w.s, "UnitPut", `{"id":"x","name":"a\u202e\u200bb"}`)
		rec.Actor, rec.Reason = actor, "c\u2066d"
		if err := w.s.Apply(rec); err != nil {
			t.Errorf("actor %q: %v", actor, err)
		}
	}
	if got := w.s.Units["x"].Name; got != "a\u202e\u200bb" {
		t.Errorf("the name is %q", got)
	}
	// And such a state takes commands about everything else.
	if _, err := w.try(PutUnit{Unit{ID: "y", Name: "y"}}); err != nil {
		t.Error(err)
	}
}

func TestActors(t *testing.T) {
	join, leave := JoinEdge{ID: "center-1"}, LeaveEdge{ID: "center-1"}
	put := PutUnit{Unit{ID: "a"}}
	for _, c := range []struct {
		actor   string
		command Command
		code    *Error
	}{
		{"alice", put, nil}, {"alice@hz", put, nil}, {"unitgate dev", put, nil}, {"张三", put, nil}, {"drivers' mate", put, nil}, {"edge", put, nil}, {"7", put, nil},
		{"", put, ErrMissingField}, {" ", put, ErrMissingField}, {"-", put, ErrMissingField}, {"\u00a0", put, ErrMissingField}, {"…", put, ErrMissingField},
		{"driver", put, ErrNotAllowed}, {"Driver", put, ErrNotAllowed}, {" driver ", put, ErrNotAllowed}, {"\u00a0DRIVER", put, ErrNotAllowed},
		{"edge/center-1", put, ErrNotAllowed}, {"Edge/center-1", put, ErrNotAllowed}, {" edge/x", put, ErrNotAllowed}, {"edge/", put, ErrNotAllowed},
		{"dri\u200bver", put, ErrBadValue}, {"driver\u202e", put, ErrBadValue}, {long, put, ErrBadValue}, {"张\u200d三", put, ErrBadValue},
		{"edge/center-1", join, nil}, {"edge/center-1", leave, nil}, {"edge/center-1", RetireEdge{ID: "center-1"}, ErrNotAllowed},
		{"edge/center-2", join, ErrNotAllowed}, {"edge/center-2", leave, ErrNotAllowed}, {"unbj operator", leave, ErrNotAllowed}, {"", leave, ErrNotAllowed},
		{"driver", leave, ErrNotAllowed}, {"Edge/center-1", join, ErrNotAllowed}, {"alice", RetireEdge{ID: "center-1"}, nil},
	} {
		err := CheckActor(c.actor, c.command)
		if c.code == nil && err != nil || c.code != nil && !errors.Is(err, c.code) {
			t.Errorf("%q, %T: %v, want %v", c.actor, c.command, err, c.code)
		}
		if e, ok := errors.AsType[*Error](err); ok && (e.Field != "actor" || e.Message == "") {
			t.Errorf("%q, %T: %+v", c.actor, c.command, e)
		}
	}
	// The control plane's own commands are given by a name that nobody else may take.
	if CheckActor(DriverActor, put) == nil || CheckActor(EdgeActor("x"), put) == nil {
		t.Error("they may be taken")
	}
	if b, _ := json.Marshal(EdgeActor("x")); string(b) != `"edge/x"` {
		t.Errorf("an edge's actor is %s", b)
	}
}
