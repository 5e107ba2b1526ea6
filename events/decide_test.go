package events

import (
	"crypto/sha256"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestRefusals(t *testing.T) {
	for _, r := range slices.Concat(configRefusals(), otherRefusals(), paceRefusals()) {
		t.Run(r.name, func(t *testing.T) {
			w := shop(t)
			if r.after != nil {
				r.after(w)
			}
			if c, ok := r.command.(ApplyConfig); ok && c.Base == 7 { // stands for "the newest"
				c.Base = w.s.ConfigVersion
				r.command = c
			}
			w.refuse(r.command, r.code, r.field)
		})
	}
}

// What stands around a command is checked before the command itself.
func TestEnvelope(t *testing.T) {
	for name, c := range map[string]struct {
		change func(e *Envelope)
		code   *Error
		field  string
	}{
		"no id":            {func(e *Envelope) { e.ID = "" }, ErrBadID, "id"},
		"id":               {func(e *Envelope) { e.ID = "7" }, ErrBadID, "id"},
		"id in upper case": {func(e *Envelope) { e.ID = "0000000A-0000-4000-8000-000000000000" }, ErrBadID, "id"},
		"id and more":      {func(e *Envelope) { e.ID += "\n" }, ErrBadID, "id"},
		"id like a path":   {func(e *Envelope) { e.ID = strings.Repeat("*.>", 12) }, ErrBadID, "id"},
		"actor":            {func(e *Envelope) { e.Actor = long }, ErrBadValue, "actor"},
		"reason":           {func(e *Envelope) { e.Reason = "a\r\nb" }, ErrBadValue, "reason"},
		"reason no UTF-8":  {func(e *Envelope) { e.Reason = "\xc3" }, ErrBadValue, "reason"},
		"traceparent":      {func(e *Envelope) { e.Traceparent = "a\nNats-Rollup: all" }, ErrBadValue, "traceparent"},
		"long traceparent": {func(e *Envelope) { e.Traceparent = long }, ErrBadValue, "traceparent"},
	} {
		w := shop(t)
		env := w.envelope(PutUnit{Unit{ID: "x"}})
		c.change(&env)
		_, err := w.tryEnvelope(env)
		w.refused(name, err, c.code, c.field)
	}
	w := shop(t)
	for _, ns := range []string{"", "Shop", "a.b", "*", ">", "a b"} {
		if _, err := Decide(w.s, ns, w.envelope(PutUnit{Unit{ID: "x"}}), start); err == nil {
			t.Errorf("namespace %q was accepted", ns)
		}
	}
}

// The first command opens the namespace; nothing else comes before it.
func TestFirstCommand(t *testing.T) {
	for _, n := range entries() {
		switch n.command.(type) {
		case CreateNamespace, ApplyConfig:
		default:
			newWorld(t).refuse(n.command, ErrUnknownNamespace, "")
		}
	}
	w := newWorld(t)
	w.refuse(ApplyConfig{Base: 3, Config: shopConfig()}, ErrStaleVersion, "base")
	w.refuse(ApplyConfig{Config: Config{Namespace: "other"}}, ErrBadValue, "config.namespace")
	w.refuse(CreateNamespace{Policy: &PolicyPatch{Hold: ptr(Duration(0))}}, ErrBadValue, "policy.hold")
	w.do(CreateNamespace{})
	if w.s.Namespace != "shop" || w.s.Policy != DefaultPolicy() || w.s.ConfigVersion != 1 {
		t.Errorf("%+v", w.s)
	}
	w = newWorld(t)
	w.do(ApplyConfig{Config: Config{Namespace: "shop"}}) // an empty one is a namespace too
	w.refuse(ApplyConfig{Base: 1, Config: Config{Namespace: "shop"}}, ErrNothingChanges, "")
}

// A reason counts wherever the caller wrote it.
func TestReasons(t *testing.T) {
	for _, inEnvelope := range []bool{true, false} {
		w := shop(t)
		w.do(walk(1))
		for _, c := range []Command{
			CheckCutover{Cutover: "c1", Checks: w.checks(Pass), Reason: "r"},
			RetryCheck{Cutover: "c1", Check: "edges-at-head", Result: w.checks(Pass)[2], Reason: "r"},
			SkipCheck{Cutover: "c1", Check: "edges-at-head", Reason: "r"},
			StartCutover{Cutover: "c1", Reason: "r"}, PauseCutover{Cutover: "c1", Reason: "r"},
			ResumeCutover{Cutover: "c1", Reason: "r"}, AbortCutover{Cutover: "c1", Reason: "r"},
			RetireEdge{ID: "hz-1", Reason: "r"},
		} {
			env := w.envelope(c)
			if inEnvelope {
				env.Reason = "r"
				env.Command = withoutReason(c)
			}
			if _, err := w.tryEnvelope(env); err != nil {
				t.Errorf("%+v: %v", env, err)
				continue
			}
			if rec := w.records[len(w.records)-1]; rec.Reason != "r" {
				t.Errorf("the record of %s has reason %q", rec.Type, rec.Reason)
			}
		}
	}
}

func withoutReason(c Command) Command {
	switch c := c.(type) {
	case CheckCutover:
		c.Reason = ""
		return c
	case RetryCheck:
		c.Reason = ""
		return c
	case SkipCheck:
		c.Reason = ""
		return c
	case StartCutover:
		c.Reason = ""
		return c
	case PauseCutover:
		c.Reason = ""
		return c
	case ResumeCutover:
		c.Reason = ""
		return c
	case AbortCutover:
		c.Reason = ""
		return c
	case RetireEdge:
		c.Reason = ""
		return c
	default:
		return c
	}
}

// An event that is too large is refused when it is stored, not by the journal.
func TestTooLarge(t *testing.T) {
	w := shop(t)
	ids := run(60_000, func(i int) string { return fmt.Sprintf("%x-%d", sha256.Sum256([]byte{byte(i), byte(i >> 8)}), i) })
	w.refuse(PreviewCutover{Exact: map[string][]string{"unbj": ids}}, ErrTooLarge, "")
}

// Every rejection that errors.go lists is given by some command of the tables above, or by the decoder.
func TestEveryRejectionIsReachable(t *testing.T) {
	f, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	listed := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			if lit, ok := kv.Value.(*ast.BasicLit); ok && fmt.Sprint(kv.Key) == "Code" {
				code, _ := strconv.Unquote(lit.Value)
				if listed[code] {
					t.Errorf("code %s stands twice", code)
				}
				listed[code] = true
			}
		}
		return true
	})
	if len(listed) < 30 {
		t.Fatalf("found only %d codes", len(listed))
	}
	for _, r := range slices.Concat(configRefusals(), otherRefusals(), paceRefusals()) {
		delete(listed, r.code.Code)
	}
	for _, e := range []*Error{ErrBadID, ErrUnknownNamespace, ErrTooLarge} { // TestEnvelope, TestFirstCommand, TestTooLarge
		delete(listed, e.Code)
	}
	for _, e := range []*Error{ErrWrongState, ErrUnknownCutover} { // TestEveryStateAnswersEveryCommand, TestUnknownCutover
		delete(listed, e.Code)
	}
	for _, e := range []*Error{ErrUnknownField, ErrDuplicateField, ErrBadType} { // TestDecodeStrict
		delete(listed, e.Code)
	}
	for _, e := range []*Error{ErrBehind, ErrTwoProcesses, ErrNewEpoch} { // of answers to edges: services/cutover, TestLeaseIsRefused
		delete(listed, e.Code)
	}
	for _, e := range []*Error{ErrBadSignature, ErrClusterFull} { // TestOnlyAnEdgeSpeaksForItself, TestClusterIsFull
		delete(listed, e.Code)
	}
	if len(listed) > 0 {
		t.Errorf("nothing gives %v", slices.Sorted(maps.Keys(listed)))
	}
}
