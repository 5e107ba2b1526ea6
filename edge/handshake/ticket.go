package handshake

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// A client that is sent to another host drops what it said of itself to this one: cookies of one host, and in most
// libraries the Cookie field altogether. So that it stays who it was, the edge that
// sends it puts a ticket into the query, by which any other edge of the namespace knows its routerId:
//
//	unitgate-ticket=BASE64URL(expiry, edge, unit type, source, routerId, Ed25519 signature)
//
// It counts as one more spelling in the source in which this edge found the ID: sources before that one go first, the same
// one has to agree, the others give way. What it proves is only that an edge has read this ID in a request, or was asked
// for its location; so no origin gets it.
const ticketParam = "unitgate-ticket"

// TicketLife is how long a client may take to follow, beside what two clocks may be apart.
const TicketLife = time.Minute

// maxTicket is the longest text of one, in bytes.
var maxTicket = base64.RawURLEncoding.EncodedLen(8 + 3*(1+maxName) + routing.MaxRouterID + ed25519.SignatureSize)

// maxName is the longest edge ID, unit type or text of a source, in bytes; see the checks of package events.
const maxName = 80

const ticketContext = "unitgate ticket 1\n"

// noSource is the source of an ID that stands nowhere in the request: the address, under "split".
const noSource = 0xff

// ticket is one that stands in a request.
type ticket struct {
	text   string
	valid  bool // it is an edge's, and in time
	late   bool // it is an edge's, and was in time
	source string
	typ    string
	id     string
}

// takeTicket takes a ticket out of a query. What is left is the client's own. A second one counts for nothing.
func (r *Request) takeTicket(query string) string {
	if !strings.Contains(query, ticketParam+"=") {
		return query
	}
	var rest []string
	for pair := range strings.SplitSeq(query, "&") {
		text, ok := strings.CutPrefix(pair, ticketParam+"=")
		switch {
		case !ok:
			rest = append(rest, pair)
		case r.ticket == nil:
			r.ticket = &ticket{text: text}
		default:
			r.ticket.text = ""
		}
	}
	return strings.Join(rest, "&")
}

// ticketBytes is how much longer a head is by its ticket: what another edge has admitted without one passes here.
func (r *Request) ticketBytes() int {
	if r.ticket == nil || r.ticket.text == "" || len(r.ticket.text) > maxTicket {
		return 0
	}
	return len(ticketParam) + len("?=") + len(r.ticket.text)
}

// checkTicket reads the request's ticket, if it has one. Whoever parsed the request calls it, by Recognize.
func (r *Request) checkTicket(v *View, now time.Time) {
	t := r.ticket
	if t == nil || v == nil || len(t.text) > maxTicket {
		return
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(t.text)
	if err != nil || len(b) < 8+1+1+1+1+ed25519.SignatureSize {
		return
	}
	signed, signature := b[:len(b)-ed25519.SignatureSize], b[len(b)-ed25519.SignatureSize:]
	expiry, rest := int64(binary.BigEndian.Uint64(signed)), signed[8:]
	edge, rest, ok := cutName(rest)
	if !ok {
		return
	}
	typ, rest, ok := cutName(rest)
	if !ok {
		return
	}
	source, id, ok := cutName(rest)
	key := v.Signers[edge]
	if !ok || key == nil || !ed25519.Verify(key, append([]byte(ticketContext), signed...), signature) {
		return
	}
	left := time.Unix(expiry, 0).Sub(now)
	t.late = left < -hopSkew
	t.valid = !t.late && left <= TicketLife+hopSkew
	t.source, t.typ, t.id = source, typ, string(id)
}

// cutName reads a name with its length before it.
func cutName(b []byte) (name string, rest []byte, ok bool) {
	if len(b) == 0 || len(b) <= int(b[0]) {
		return "", nil, false
	}
	n := 1 + int(b[0])
	return string(b[1:n]), b[n:], true
}

// ticketOf is the request's ticket if it is good for a unit type.
func (r *Request) ticketOf(t *Type) *ticket {
	if r.ticket == nil || !r.ticket.valid || r.ticket.typ != t.Name {
		return nil
	}
	return r.ticket
}

// Vouch puts a ticket into a redirect, and into the answer to who asks for a location, if the edge has a key and the
// client's routerId would not get there by itself, see travels.
func (vd *Verdict) Vouch(v *View, now time.Time) {
	if v == nil || v.Signer == nil || vd.RouterID == "" || vd.Type == nil || vd.travels() {
		return
	}
	switch vd.Code {
	case "redirect":
		for i := range vd.Header {
			if f := &vd.Header[i]; f.Name == "Location" {
				f.Value = withParam(f.Value, ticketParam, vd.ticket(v, now))
			}
		}
	case "located":
		vd.Reason = strings.TrimSuffix(vd.Reason, "}") + `,"ticket":"` + ticketParam + "=" + vd.ticket(v, now) + `"}`
	}
}

// text is what a ticket calls a source.
func (s *Source) text() string {
	if s.From == "path" {
		return "path:" + strconv.Itoa(s.Number)
	}
	return s.From + ":" + s.Name
}

// travels reports whether the routerId was found in what a client says at another host, too: in the URL, among the
// subprotocols, in a field of its own. Libraries that follow redirects drop cookies and credentials (Fetch standard,
// "HTTP-redirect fetch"; net/http, curl and npm's ws do as it says).
func (vd *Verdict) travels() bool {
	if !vd.said || vd.found >= len(vd.Type.Sources) {
		return false
	}
	switch s := &vd.Type.Sources[vd.found]; s.From {
	case "cookie":
		return false
	case "header":
		return !secretFields[strings.ToLower(s.Name)]
	}
	return true
}

// secretFields are those that are dropped.
var secretFields = map[string]bool{"authorization": true, "cookie": true, "cookie2": true, "proxy-authorization": true, "www-authenticate": true}

// ticket is the text of one for the verdict's client.
func (vd *Verdict) ticket(v *View, now time.Time) string {
	b := append(make([]byte, 0, 512), ticketContext...)
	b = binary.BigEndian.AppendUint64(b, uint64(now.Add(TicketLife).Unix()))
	source := ""
	if vd.found < len(vd.Type.Sources) {
		source = vd.Type.Sources[vd.found].text()
	}
	for _, name := range [...]string{v.ID, vd.Type.Name, source} {
		b = append(append(b, byte(len(name))), name...)
	}
	b = append(b, vd.RouterID...)
	b = append(b, ed25519.Sign(v.Signer, b)...)
	return base64.RawURLEncoding.EncodeToString(b[len(ticketContext):])
}

// withParam is a URL with one more parameter, whose value needs no encoding.
func withParam(url, name, value string) string {
	sep := "?"
	if strings.Contains(url, "?") {
		sep = "&"
	}
	return url + sep + name + "=" + value
}
