package events

import (
	"strings"
	"testing"
)

const callers = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestTraceOfACutover(t *testing.T) {
	own := Cutover{ID: "c1", Traceparent: RootTraceparent(TraceID{1, 2, 3})}
	tr, ok := own.Trace()
	if !ok || tr.ID != (TraceID{1, 2, 3}) || tr.Root == (SpanID{}) || tr.Parent != (SpanID{}) {
		t.Errorf("nobody's trace: %+v, %t; want a root without a parent", tr, ok)
	}
	below := Cutover{ID: "c1", Traceparent: callers}
	tb, ok := below.Trace()
	if !ok || tb.Parent != (SpanID{0xb7, 0xad, 0x6b, 0x71, 0x69, 0x20, 0x33, 0x31}) || tb.Root == tb.Parent {
		t.Errorf("an operator's trace: %+v, %t; want a root below the operator's span", tb, ok)
	}
	if got := tb.Traceparent(); !strings.HasPrefix(got, "00-0af7651916cd43dd8448eb211c80319c-") || strings.Contains(got, "b7ad6b7169203331") {
		t.Errorf("what is below the root is sent with %s", got)
	}
	// The same header may come with two proposals, and a wave is fenced more than once.
	second := Cutover{ID: "c2", Traceparent: callers}
	ts, _ := second.Trace()
	seen := map[SpanID]string{}
	for name, id := range map[string]SpanID{"c1": tb.Root, "c1 12": tb.Wave(12), "c1 13": tb.Wave(13), "c2": ts.Root, "c2 12": ts.Wave(12), "own": tr.Root} {
		if other, ok := seen[id]; ok {
			t.Errorf("%s and %s have the same id", name, other)
		}
		seen[id] = name
	}
	if again, _ := below.Trace(); again != tb {
		t.Errorf("%+v and %+v of one cutover", tb, again)
	}
	old := Cutover{ID: "c1"}
	if _, ok := old.Trace(); ok {
		t.Error("a proposal without a traceparent has a trace")
	}
}

func TestParseTraceparent(t *testing.T) {
	for _, bad := range []string{
		"", "00", "00---", "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
		"00-00000000000000000000000000000000-b7ad6b7169203331-01", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333-01", "00-0af7651916cd43dd8448eb211c80319g-b7ad6b7169203331-01", callers + "-x",
		"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0z",
	} {
		if _, _, ok := ParseTraceparent(bad); ok {
			t.Errorf("%q is taken", bad)
		}
	}
	if _, _, ok := ParseTraceparent(callers); !ok {
		t.Errorf("%q is refused", callers)
	}
}
