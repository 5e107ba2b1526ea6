package handshake

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events/routing"
)

// A client that is sent to another host drops what it said of itself to this one: cookies of one host, and in most
// libraries the Cookie field altogether, sometimes every field of its own. So that it stays who it was, the edge that
// sends it puts a ticket into the query, by which any other edge of the namespace knows its routerId:
//
//	unitgate-ticket=BASE64URL(expiry, source, edge, unit type, routerId, Ed25519 signature)
//
// It counts as one more spelling in the source in which this edge found the ID: sources before that one go first, the same
// one has to agree, the others give way. What it proves is only that an edge has read this ID in a request, or was asked
// for its location; so no origin gets it.
const ticketParam = "unitgate-ticket"

// TicketLife is how long a client may take to follow, beside what two clocks may be apart.
const TicketLife = time.Minute

// maxTicket is the longest text of one, in bytes.
var maxTicket = base64.RawURLEncoding.EncodedLen(8 + 1 + 1 + maxName + 1 + maxName + routing.MaxRouterID + ed25519.SignatureSize)

// maxName is the longest edge ID or unit type, in bytes; see events.CheckID.
const maxName = 64

const ticketContext = "unitgate ticket 1\n"

// noSource is the source of an ID that stands nowhere in the request: the address, under "split".
const noSource = 0xff

// ticket is one that stands in a request.
type ticket struct {
	text   string
	valid  bool // it is an edge's, and in time
	late   bool // it is an edge's, and was in time
	source int
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
	if err != nil || len(b) < 8+1+1+1+ed25519.SignatureSize {
		return
	}
	signed, signature := b[:len(b)-ed25519.SignatureSize], b[len(b)-ed25519.SignatureSize:]
	expiry, source, rest := int64(binary.BigEndian.Uint64(signed)), signed[8], signed[9:]
	edge, rest, ok := cutName(rest)
	if !ok {
		return
	}
	typ, id, ok := cutName(rest)
	key := v.Signers[edge]
	if !ok || key == nil || !ed25519.Verify(key, append([]byte(ticketContext), signed...), signature) {
		return
	}
	left := time.Unix(expiry, 0).Sub(now)
	t.late = left < -hopSkew
	t.valid = !t.late && left <= TicketLife+hopSkew
	t.source, t.typ, t.id = int(source), typ, string(id)
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
// client's routerId would not get there by itself: path and query do.
func (vd *Verdict) Vouch(v *View, now time.Time) {
	if v == nil || v.Signer == nil || vd.RouterID == "" || vd.Type == nil {
		return
	}
	switch vd.Code {
	case "redirect":
		if vd.travels() {
			return
		}
		for i := range vd.Header {
			if f := &vd.Header[i]; f.Name == "Location" {
				f.Value = withParam(f.Value, ticketParam, vd.ticket(v, now))
			}
		}
	case "located":
		vd.Reason = strings.TrimSuffix(vd.Reason, "}") + `,"ticket":"` + ticketParam + "=" + vd.ticket(v, now) + `"}`
	}
}

// travels reports whether the routerId was found in the URL, so that it is there at another host, too.
func (vd *Verdict) travels() bool {
	if vd.found >= len(vd.Type.Sources) {
		return false
	}
	from := vd.Type.Sources[vd.found].From
	return from == "query" || from == "path"
}

// ticket is the text of one for the verdict's client.
func (vd *Verdict) ticket(v *View, now time.Time) string {
	b := append(make([]byte, 0, 512), ticketContext...)
	b = binary.BigEndian.AppendUint64(b, uint64(now.Add(TicketLife).Unix()))
	b = append(b, byte(min(vd.found, noSource)))
	for _, name := range [...]string{v.ID, vd.Type.Name} {
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
