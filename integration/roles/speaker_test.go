package roles_test

import (
	"bytes"
	"compress/flate"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
)

const maxPayload = 1 << 20 // of limits.conf

// message is one that a role sends.
type message struct {
	subject, reply string
	header         nats.Header
	body           []byte
	kind           string
}

func (m message) String() string {
	return fmt.Sprintf("%s on %s, %d bytes, reply %q: %.80q", m.kind, m.subject, len(m.body), m.reply, m.body)
}

// speaker makes up what one role says. What it says follows from its seed and from what
// the tap has heard.
type speaker struct {
	lab    *lab
	role   role
	rng    *rand.Rand
	usual  string             // a command id that is used again and again
	own    ed25519.PrivateKey // of no edge
	stolen string             // id of an edge of the role's unit whose key it has
	last   message
}

func newSpeaker(l *lab, r role, seed uint64) *speaker {
	s := &speaker{lab: l, role: r, rng: newRand(seed, r.name)}
	s.usual = s.uuid()
	key := make([]byte, ed25519.SeedSize)
	for i := range key {
		key[i] = byte(s.rng.IntN(256))
	}
	s.own = ed25519.NewKeyFromSeed(key)
	for _, id := range slices.Sorted(maps.Keys(l.members)) {
		if r.account == "EDGES" && s.stolen == "" && (id == r.edge || r.edge == "" && l.members[id] == r.unit) {
			s.stolen = id
		}
	}
	return s
}

// next is what the role says next.
func (s *speaker) next() message {
	m := message{subject: s.lab.words.subject(s.rng, pick(s.rng, s.role.may)), header: nats.Header{}}
	m.body = s.shape(m.subject)
	switch n := s.rng.IntN(100); {
	case n < 35:
		m.kind = "valid"
	case n < 50:
		m.kind, m.body = "changed", s.change(m.body)
	case n < 60:
		m.kind, m.body = "huge", s.huge(m.body)
	case n < 70:
		m.kind, m.body = "packed", s.packed(m.body)
	case n < 75:
		m.kind, m.body = "noise", s.noise()
	case n < 90:
		if old, ok := s.lab.tap.some(s.rng, s.role); ok {
			old.kind = "replayed"
			return s.answerTo(old)
		}
		m.kind = "valid"
	default:
		if s.last.subject != "" {
			m = s.last
			m.kind = "repeated"
			return m
		}
		m.kind = "valid"
	}
	s.sign(&m)
	s.headers(&m)
	m.body = m.body[:min(len(m.body), maxPayload-headerSize(m.header))]
	m = s.answerTo(m)
	s.last = m
	return m
}

// answerTo has the answer sent to an inbox of the role's, or to where the role may not
// write.
func (s *speaker) answerTo(m message) message {
	switch s.rng.IntN(8) {
	case 0:
		m.reply = pick(s.rng, s.sensitive())
	case 1:
		m.reply = ""
	default:
		m.reply = s.role.inbox + ".fuzz"
	}
	return m
}

// sign gives what an edge says a signature that is not that edge's: so that no join of a
// new edge, which a unit's user may have, is a good one. What is said in the name of an
// edge that there is may also go without.
func (s *speaker) sign(m *message) {
	what := m.subject[strings.LastIndexByte(m.subject, '.')+1:]
	if !slices.Contains([]string{"join", "leave", "report", "lease"}, what) {
		return
	}
	if m.kind == "valid" && s.rng.IntN(6) == 0 && s.ofAnother(m.body) {
		return
	}
	by := s.own
	if stolen := s.lab.signer(s.stolen); stolen != nil && s.rng.IntN(2) == 0 && !bytes.Contains(m.body, []byte(`"`+s.stolen+`"`)) && !strings.Contains(m.subject, "."+s.stolen+".") {
		by = stolen
	}
	expires := pick(s.rng, []string{"", "2099-01-01T00:00:00Z", "60s", "x"})
	h := events.SignedHeaders(by, m.subject, expires, m.body)
	switch s.rng.IntN(6) {
	case 0: // as another edge's
		if heard, ok := s.lab.tap.newest(s.foreign()); ok && len(heard.header[events.HeaderKey]) > 0 {
			h[events.HeaderKey] = heard.header[events.HeaderKey]
		}
	case 1: // of other words
		h[events.HeaderSignature] = []string{base64.StdEncoding.EncodeToString(ed25519.Sign(by, []byte("other words")))}
	case 2:
		h[events.HeaderKey] = []string{h[events.HeaderKey][0], h[events.HeaderKey][0]}
	case 3:
		h[events.HeaderSignature] = []string{"x"}
	}
	maps.Copy(m.header, h)
}

// ofAnother reports whether a body is about an edge that there is, or a unit that is not
// the role's.
func (s *speaker) ofAnother(body []byte) bool {
	var e struct{ ID, Edge, Unit string }
	_ = json.Unmarshal(body, &e)
	_, member := s.lab.members[e.ID+e.Edge]
	return member || e.Unit != s.role.unit
}

// headers adds some that others read.
func (s *speaker) headers(m *message) {
	if s.rng.IntN(4) > 0 {
		return
	}
	for range 1 + s.rng.IntN(3) {
		h := pick(s.rng, [][2]string{
			{"Nats-Msg-Id", "fuzz"}, {"Nats-Expected-Last-Sequence", "1"}, {"Nats-Rollup", "all"}, {"Nats-Request-Info", `{"acc":"CONTROL","user":"driver"}`},
			{"Unitgate-Expires", "87600h"}, {"Unitgate-Expires", "-1s"}, {"Traceparent", "00-" + strings.Repeat("a", 32) + "-" + strings.Repeat("b", 16) + "-01"}, {"Traceparent", "\x01"},
			{"Nats-Service-Error-Code", "x"}, {"X-Large", strings.Repeat("h", 1+s.rng.IntN(20000))}, {"Nats-Schedule", "@every 1s"}, {"Nats-TTL", "1s"}, {"Status", "503"},
		})
		m.header.Add(h[0], h[1])
	}
}

func headerSize(h nats.Header) int {
	n := 64
	for k, values := range h {
		for _, v := range values {
			n += len(k) + len(v) + 8
		}
	}
	return n
}

// change makes something else of a body, not far from it.
func (s *speaker) change(body []byte) []byte {
	body = bytes.Clone(body)
	for range 1 + s.rng.IntN(3) {
		if len(body) == 0 {
			return s.noise()
		}
		at := s.rng.IntN(len(body))
		switch s.rng.IntN(7) {
		case 0:
			body[at] ^= 1 << s.rng.IntN(8)
		case 1:
			body = body[:at]
		case 2:
			body = slices.Insert(body, at, []byte(pick(s.rng, []string{`"`, "{", "[", "null", "-1", "1e999", `"\u0000"`, "\xff", " "}))...)
		case 3: // every key twice
			body = append(body[:len(body)-1], append([]byte(","), body[1:]...)...)
		case 4:
			body = bytes.Replace(body, []byte(`":`), []byte(`":[`), 1)
		case 5:
			body = bytes.ReplaceAll(body, []byte(`"id"`), []byte(`"ID"`))
		default:
			body = append(body, pick(s.rng, []string{"{}", "\x00", " ", "]"})...)
		}
	}
	return body
}

// huge fills a message up to what the bus takes.
func (s *speaker) huge(body []byte) []byte {
	room := maxPayload - 64<<10
	switch s.rng.IntN(6) {
	case 0:
		return append(bytes.Repeat([]byte(" "), room-len(body)), body...)
	case 1:
		return []byte(`{"slots":[` + strings.Repeat(`"0-9999",`, room/9-4) + `"0-9999"],"unitType":"unit_type"}`)
	case 2:
		return []byte(`{"data":{"id":"` + strings.Repeat("a", room) + `"}}`)
	case 3:
		return []byte(strings.Repeat("[", room))
	case 4:
		return []byte(`{"data":` + strings.Repeat(`{"data":`, 10000) + "1" + strings.Repeat("}", 10001))
	}
	var b strings.Builder
	b.WriteString(`{"exact":{"zz":[`)
	for i := 0; b.Len() < room; i++ {
		fmt.Fprintf(&b, `"%d",`, i)
	}
	b.WriteString(`"x"]},"data":{}}`)
	return []byte(b.String())
}

// packed is a body under DEFLATE, or something large that is small.
func (s *speaker) packed(body []byte) []byte {
	var p []byte
	switch n := s.rng.IntN(len(s.lab.bombs) + 3); n {
	default:
		p = s.lab.bombs[n]
	case len(s.lab.bombs):
		p = pack(body)
	case len(s.lab.bombs) + 1:
		p = pack(wrap(pack(body)))
	case len(s.lab.bombs) + 2:
		p = append(pack(body), "tail"...)
	}
	if s.rng.IntN(2) == 0 {
		return wrap(p)
	}
	return slices.Concat([]byte(`{"data":`), wrap(p), []byte("}"))
}

func wrap(packed []byte) []byte {
	b, err := json.Marshal(map[string][]byte{"packed": packed})
	if err != nil {
		panic(err) // bytes
	}
	return b
}

func pack(text []byte) []byte {
	var b bytes.Buffer
	w, err := flate.NewWriter(&b, flate.BestCompression)
	if err == nil {
		_, err = w.Write(text)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // a buffer takes everything
	}
	return b.Bytes()
}

// bombs are what takes 8 MiB, or somewhat more, when it is unpacked.
func bombs() [][]byte {
	const most = 8 << 20
	fill := func(head, part, tail string) []byte {
		return pack([]byte(head + strings.Repeat(part, (most-len(head)-len(tail))/len(part)) + tail))
	}
	return [][]byte{
		fill(`{"id":"`, "a", `"}`), fill(`{"unitType":"unit_type","slots":["0"`, `,"0-9999"`, `]}`), fill(`{"exact":{"zz":["0"`, `,"1"`, `]}}`),
		fill(`{"config":{"units":[{"id":"a"}`, `,{"id":"zz"}`, `]}}`), fill("", " ", "{}"), fill("", "[", ""), pack(bytes.Repeat([]byte("a"), most+1)), pack(bytes.Repeat([]byte("a"), 64<<20)),
		fill(`{"fences":[{}`, `,{}`, `]}`), fill(`{"a":0`, `,"a":0`, `}`),
	}
}

func (s *speaker) noise() []byte {
	b := make([]byte, s.rng.IntN(2000))
	for i := range b {
		b[i] = byte(s.rng.IntN(256))
	}
	return b
}
