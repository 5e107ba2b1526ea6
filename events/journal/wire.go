package journal

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

// The wire format, fixed by the golden files in testdata. Subject: unitgate.evt.<namespace>.<entity>.<verb>.<command id>.
// Body: the event's JSON as it is. The sequence is the stream's.
const (
	eventSubjects = "unitgate.evt."
	liveSubjects  = "unitgate.live."

	headerType        = "Unitgate-Type"
	headerSchema      = "Unitgate-Schema" // decimal
	headerTime        = "Unitgate-Time"   // RFC 3339 with nanoseconds, UTC
	headerActor       = "Unitgate-Actor"  // escaped text, may be empty
	headerReason      = "Unitgate-Reason" // escaped text, left out when empty
	headerPrev        = "Unitgate-Prev"   // hex SHA-256, empty in the first record
	headerTraceparent = "traceparent"     // lower case as W3C Trace Context and OTel's messaging conventions write it; left out when empty
)

// maxHeaderText bounds actor and reason together, escaped, in bytes: JetStream refuses headers over 64 KiB, and a name
// and a sentence are what these are for.
const maxHeaderText = 16 << 10

// maxToken bounds entity, verb, command id and type, in bytes.
const maxToken = 64

func subject(ns, entity, verb, commandID string) string {
	return eventSubjects + ns + "." + entity + "." + verb + "." + commandID
}

// prepare checks a record that shall be stored after the given sequence, and returns it as it will be read again.
func prepare(after uint64, rec events.Record) (events.Record, error) {
	rec.Seq = after + 1
	rec.Time = rec.Time.UTC().Round(0) // without the monotonic clock, which is not stored
	if err := checkKey(rec.Entity, rec.Verb, rec.CommandID); err != nil {
		return rec, err
	}
	if err := checkForm(&rec); err != nil {
		return rec, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if n := len(rec.Data); n > events.MaxEventSize {
		return rec, fmt.Errorf("%w: %s.%s has %d bytes, at most %d are allowed", ErrTooLarge, rec.Entity, rec.Verb, n, events.MaxEventSize)
	}
	if n := len(escape(rec.Actor)) + len(escape(rec.Reason)); n > maxHeaderText {
		return rec, fmt.Errorf("%w: actor and reason have %d bytes, at most %d are allowed", ErrTooLarge, n, maxHeaderText)
	}
	if (after == 0) != (rec.Prev == "") {
		return rec, fmt.Errorf("%w: record after sequence %d with previous hash %q", ErrInvalid, after, rec.Prev)
	}
	return rec, nil
}

// checkKey checks the three subject tokens that identify a command. Lower case only: one UUID has one spelling, else a
// retry in another one would take effect twice.
func checkKey(entity, verb, commandID string) error {
	for _, f := range [...]struct{ name, value string }{{"entity", entity}, {"verb", verb}, {"command id", commandID}} {
		if !isToken(f.value) {
			return fmt.Errorf("%w: %s %q: 1 to %d of a-z, 0-9 and '-' are allowed", ErrInvalid, f.name, f.value, maxToken)
		}
	}
	return nil
}

// checkForm checks the fields that travel in headers unescaped.
func checkForm(rec *events.Record) error {
	if !isName(rec.Type) {
		return fmt.Errorf("type %q: 1 to %d letters and digits are allowed", rec.Type, maxToken)
	}
	if rec.Schema < 1 {
		return fmt.Errorf("schema %d: must be at least 1", rec.Schema)
	}
	if y := rec.Time.Year(); y < 1 || y > 9999 {
		return fmt.Errorf("time %v: year out of RFC 3339's range", rec.Time)
	}
	if rec.Prev != "" && !isHash(rec.Prev) {
		return fmt.Errorf("previous hash %q: 64 lower-case hex digits are expected", rec.Prev)
	}
	if len(rec.Traceparent) > 256 || !isHex(strings.ReplaceAll(rec.Traceparent, "-", "")) {
		return fmt.Errorf("traceparent %.80q: lower-case hex digits and '-' are expected (W3C Trace Context, section 3.2)", rec.Traceparent)
	}
	return nil
}

// encode makes the message of a prepared record, without the guards.
func encode(ns string, rec *events.Record) *nats.Msg {
	h := nats.Header{
		headerType:   {rec.Type},
		headerSchema: {strconv.Itoa(rec.Schema)},
		headerTime:   {rec.Time.Format(time.RFC3339Nano)},
		headerActor:  {escape(rec.Actor)},
		headerPrev:   {rec.Prev},
	}
	if rec.Reason != "" {
		h[headerReason] = []string{escape(rec.Reason)}
	}
	if rec.Traceparent != "" {
		h[headerTraceparent] = []string{rec.Traceparent}
	}
	return &nats.Msg{Subject: subject(ns, rec.Entity, rec.Verb, rec.CommandID), Header: h, Data: rec.Data}
}

// decode reads a stored message. It refuses whatever encode would not have written, so that a forged record does not
// pass for a strange one. The strings and Data of the result share memory with the message.
func decode(ns, subj string, h nats.Header, data []byte, seq uint64) (events.Record, error) {
	rec := events.Record{Seq: seq, Data: data}
	if err := decodeSubject(&rec, ns, subj); err != nil {
		return rec, err
	}
	var fail error
	get := func(key string, required bool) string {
		v := h[key]
		if len(v) == 1 {
			return v[0]
		}
		if fail == nil && (required || len(v) > 1) {
			fail = fmt.Errorf("header %s: %d values", key, len(v))
		}
		return ""
	}
	rec.Type, rec.Prev, rec.Traceparent = get(headerType, true), get(headerPrev, true), get(headerTraceparent, false)
	schema, at := get(headerSchema, true), get(headerTime, true)
	actor, reason := get(headerActor, true), get(headerReason, false)
	if fail != nil {
		return rec, fail
	}
	var err error
	if rec.Schema, err = strconv.Atoi(schema); err != nil {
		return rec, fmt.Errorf("header %s: %w", headerSchema, err)
	}
	if rec.Time, err = time.Parse(time.RFC3339Nano, at); err != nil {
		return rec, fmt.Errorf("header %s: %w", headerTime, err)
	}
	rec.Time = rec.Time.UTC()
	if rec.Actor, err = unescape(actor); err != nil {
		return rec, fmt.Errorf("header %s: %w", headerActor, err)
	}
	if rec.Reason, err = unescape(reason); err != nil {
		return rec, fmt.Errorf("header %s: %w", headerReason, err)
	}
	return rec, checkForm(&rec)
}

func decodeSubject(rec *events.Record, ns, subj string) error {
	rest, ok := strings.CutPrefix(subj, eventSubjects)
	if ok {
		rest, ok = strings.CutPrefix(rest, ns+".")
	}
	var rest2 string
	rec.Entity, rest2, _ = strings.Cut(rest, ".")
	rec.Verb, rec.CommandID, _ = strings.Cut(rest2, ".")
	if !ok || checkKey(rec.Entity, rec.Verb, rec.CommandID) != nil {
		return fmt.Errorf("subject %q: want %s", subj, subject(ns, "<entity>", "<verb>", "<command id>"))
	}
	return nil
}

// escape makes text of users safe as a header value: every rune that is not printable, every byte that is not UTF-8, the
// percent sign, and spaces at either end (parsers trim them) become %XX per byte, as in RFC 3986 section 2.1. All else,
// Chinese too, stays readable for who looks at the stream with plain tools.
func escape(s string) string {
	if !needsEscape(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, n := utf8.DecodeRuneInString(s[i:])
		edge := r == ' ' && (i == 0 || i == len(s)-1)
		if r == '%' || edge || !unicode.IsPrint(r) || (r == utf8.RuneError && n == 1) {
			for _, c := range []byte(s[i : i+n]) {
				fmt.Fprintf(&b, "%%%02X", c)
			}
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

// needsEscape answers quickly for what nearly all actors and reasons are; it may say yes to text that escape leaves alone.
func needsEscape(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			return true
		}
	}
	return s != "" && (s[0] == ' ' || s[len(s)-1] == ' ')
}

// unescape undoes escape, and refuses what escape does not produce.
func unescape(s string) (string, error) {
	if !needsEscape(s) {
		return s, nil
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] != '%' {
			b = append(b, s[i])
			continue
		}
		if i+2 >= len(s) {
			return "", fmt.Errorf("%q ends inside an escape", s)
		}
		c, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
		if err != nil {
			return "", fmt.Errorf("%q is no escape", s[i:i+3])
		}
		b = append(b, byte(c))
		i += 2
	}
	if out := string(b); escape(out) == s {
		return out, nil
	}
	return "", fmt.Errorf("%q is not escaped as this program escapes", s)
}

func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return s != "" && len(s) <= maxToken
}

func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !('a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxToken
}

func isHash(s string) bool { return len(s) == 64 && isHex(s) }

func isHex(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return true
}
