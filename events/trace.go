package events

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
)

type (
	// TraceID is that of W3C Trace Context; all zeroes are none.
	TraceID [16]byte
	// SpanID is likewise.
	SpanID [8]byte
)

// Trace names the spans of a cutover that many processes have to agree on. It follows from the journal alone: whoever
// emits below the root or a wave knows its parent, and whoever is there at the end can emit the root itself.
//
// The journal holds the traceparent of the proposal. One of an operator's own trace names the span below which the root
// stands. One that nobody has made a span for (RootTraceparent) says so: its span id follows from its trace id.
type Trace struct {
	ID     TraceID
	Root   SpanID
	Parent SpanID // of Root; zero: none
	key    string // what the ids of spans are derived from
}

// Trace is the cutover's trace; false: it has none.
func (c *Cutover) Trace() (Trace, bool) {
	id, span, ok := ParseTraceparent(c.Traceparent)
	if !ok {
		return Trace{}, false
	}
	t := Trace{ID: id, key: c.Traceparent + "/" + c.ID}
	t.Root = t.derive("root")
	if span != rootSpan(id) {
		t.Parent = span
	}
	return t, true
}

// Wave is the span from a fence, named by its sequence, to the commit, or to the end of the fence without one.
func (t *Trace) Wave(fence uint64) SpanID { return t.derive(fmt.Sprintf("wave/%d", fence)) }

// Traceparent is the context of the root span: what is below it is sent with this header.
func (t *Trace) Traceparent() string { return formatTraceparent(t.ID, t.Root) }

func (t *Trace) derive(what string) SpanID {
	sum := sha256.Sum256([]byte(t.key + "/" + what))
	return spanOf(sum)
}

// RootTraceparent is the traceparent of a command that belongs to no trace yet: it begins one, and there is no span that it
// names.
func RootTraceparent(id TraceID) string { return formatTraceparent(id, rootSpan(id)) }

func rootSpan(id TraceID) SpanID {
	return spanOf(sha256.Sum256(append([]byte("unitgate root "), id[:]...)))
}

func spanOf(sum [sha256.Size]byte) (s SpanID) {
	copy(s[:], sum[:])
	if s == (SpanID{}) {
		s[7] = 1
	}
	return s
}

// formatTraceparent writes a sampled one: a cutover is always recorded.
func formatTraceparent(id TraceID, span SpanID) string {
	return fmt.Sprintf("00-%x-%x-01", id[:], span[:])
}

// ParseTraceparent reads a traceparent header (https://www.w3.org/TR/trace-context/#traceparent-header), of which it takes
// version 00 only. It is false for what a receiver has to ignore.
func ParseTraceparent(s string) (id TraceID, span SpanID, ok bool) {
	part := strings.Split(s, "-")
	if len(part) != 4 || part[0] != "00" || len(part[1]) != 32 || len(part[2]) != 16 || len(part[3]) != 2 || strings.ToLower(s) != s {
		return id, span, false
	}
	var flags [1]byte
	_, err1 := hex.Decode(id[:], []byte(part[1]))
	_, err2 := hex.Decode(span[:], []byte(part[2]))
	_, err3 := hex.Decode(flags[:], []byte(part[3]))
	if err1 != nil || err2 != nil || err3 != nil || id == (TraceID{}) || span == (SpanID{}) {
		return TraceID{}, SpanID{}, false
	}
	return id, span, true
}

// CutoverOf is the id of the cutover that a command is about, "" if it is about none. What a command proposes is not known
// before it is decided.
func CutoverOf(c Command) string {
	switch c := c.(type) {
	case CheckCutover:
		return c.Cutover
	case RetryCheck:
		return c.Cutover
	case SkipCheck:
		return c.Cutover
	case StartCutover:
		return c.Cutover
	case PauseCutover:
		return c.Cutover
	case ResumeCutover:
		return c.Cutover
	case AbortCutover:
		return c.Cutover
	case RollbackCutover:
		return c.Cutover
	case FenceWave:
		return c.Cutover
	case CommitWave:
		return c.Cutover
	case JudgeWave:
		return c.Cutover
	case CompleteCutover:
		return c.Cutover
	case FailCutover:
		return c.Cutover
	case RecordHook:
		return c.Cutover
	case ReportCutover:
		return c.Cutover
	default:
		return ""
	}
}
