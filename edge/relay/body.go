package relay

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"

	"github.com/unitgate/unitgate/edge/handshake"
)

// maxReply is the longest head of an origin's response, in bytes.
const maxReply = 16 << 10

// reply is what matters of the head of an origin's response.
type reply struct {
	status int
	body   body
	coded  bool // the body has a transfer coding

	refused  string // of an edge of another unit: why it does not take the handshake
	sequence uint64 // by which it says so
	time     int64  // its Unix time then
}

// replyEnd is the length of the head that b starts with, 0 if its end is not there yet. Lines may end in LF alone
// (RFC 9112 section 2.2).
func replyEnd(b []byte) int {
	for n := 0; ; {
		i := bytes.IndexByte(b[n:], '\n')
		if i < 0 {
			return 0
		}
		line := bytes.TrimSuffix(b[n:n+i], []byte{'\r'})
		n += i + 1
		if len(line) == 0 {
			return n
		}
	}
}

// beginsReply reports whether a response may begin with b (RFC 9112 section 4). What speaks another protocol often waits
// for an answer to its first word.
func beginsReply(b []byte) bool {
	const want = "HTTP/1."
	n := min(len(b), len(want))
	return string(b[:n]) == want[:n]
}

// parseReply reads a complete head. How it is passed on: passedOn.
func parseReply(head []byte) (r reply, ok bool) {
	lines := unfolded(head)
	version, rest, _ := strings.Cut(lines[0], " ")
	code, _, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	r.status, _ = strconv.Atoi(code)
	if !strings.HasPrefix(version, "HTTP/1.") || len(code) != 3 || r.status < 100 {
		return reply{}, false
	}
	r.body.kind = untilEOF
	for _, line := range lines[1:] {
		name, value, found := strings.Cut(line, ":")
		if !found || name == "" || strings.ContainsAny(name, " \t\r\x00") {
			return reply{}, false
		}
		value = strings.Trim(value, " \t")
		switch {
		case strings.EqualFold(name, "Transfer-Encoding"):
			r.coded = true
			if r.body = (body{kind: untilEOF}); hasToken(value, "chunked") {
				r.body.kind = chunked
			}
		case strings.EqualFold(name, handshake.RefusedField):
			r.refused = value
		case strings.EqualFold(name, handshake.SequenceField):
			r.sequence, _ = strconv.ParseUint(value, 10, 64) // 0: it says nothing
		case strings.EqualFold(name, handshake.TimeField):
			r.time, _ = strconv.ParseInt(value, 10, 64) // likewise
		case strings.EqualFold(name, "Content-Length") && !r.coded:
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				return reply{}, false
			}
			r.body = body{kind: counted, left: n}
		}
	}
	if r.bodiless() {
		r.body, r.coded = body{kind: counted}, false
	}
	return r, true
}

// bodiless reports whether such an answer has no body, whatever its fields say (RFC 9110 sections 15.3.5 and 15.4.5).
func (r *reply) bodiless() bool {
	return r.status == http.StatusNoContent || r.status == http.StatusNotModified
}

// passedOn is a complete head as the client gets it, whose connection ends with the answer: the fields that are about the
// connection to the origin are not passed on (RFC 9110 section 7.6.1), or a client would take it for one that goes on and
// send its next request into the end. What says where the body ends stays, as does Upgrade in a 426, which has to have
// it (section 15.5.22). Without refusal, those fields go as well by which an edge says that it has turned a handshake down.
//
// Lines end in CRLF then, and a field is one line (RFC 9112 sections 2.2 and 5.2).
func (r *reply) passedOn(head []byte, refusal bool) []byte {
	lines, named := unfolded(head), "" // by Connection
	for _, line := range lines[1:] {
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(name, "Connection") {
			named += "," + value
		}
	}
	out, connection := append(make([]byte, 0, len(head)+64), lines[0]...), "close"
	for _, line := range lines[1:] {
		name, _, _ := strings.Cut(line, ":")
		switch name = strings.ToLower(name); name {
		case "connection", "keep-alive", "proxy-connection":
			continue
		case "upgrade":
			if r.status != http.StatusUpgradeRequired {
				continue
			}
			connection = "close, Upgrade"
		case "transfer-encoding":
			if r.bodiless() {
				continue
			}
		case "content-length":
			if r.coded { // RFC 9112 section 6.3: it is overridden, and not passed on
				continue
			}
		case strings.ToLower(handshake.RefusedField), strings.ToLower(handshake.SequenceField), strings.ToLower(handshake.TimeField):
			if !refusal {
				continue
			}
		default:
			if hasToken(named, name) {
				continue
			}
		}
		out = append(append(out, "\r\n"...), line...)
	}
	return append(out, "\r\nConnection: "+connection+"\r\n\r\n"...)
}

// unfolded are the lines of a complete head without their ends, of each field one.
func unfolded(head []byte) []string {
	var lines []string
	for line := range strings.SplitSeq(strings.TrimRight(string(head), "\r\n"), "\n") {
		line = strings.TrimSuffix(line, "\r")
		if n := len(lines); n > 0 && (strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t")) {
			if n > 1 { // else it is before the first field: section 2.2
				lines[n-1] += " " + strings.Trim(line, " \t")
			}
			continue
		}
		lines = append(lines, line)
	}
	return lines
}

func hasToken(list, token string) bool {
	for s := range strings.SplitSeq(list, ",") {
		if strings.EqualFold(strings.Trim(s, " \t"), token) {
			return true
		}
	}
	return false
}

// body follows a response's body to find its end (RFC 9112 section 6.3).
type body struct {
	kind bodyKind
	left int64 // bytes still to come of the body, or of the chunk
	at   chunkAt
	line uint16 // bytes of the current line, or the chunk size's digits
}

type bodyKind uint8

const (
	untilEOF bodyKind = iota
	counted
	chunked
)

// chunkAt is the place in a chunked body (RFC 9112 section 7.1).
type chunkAt uint8

const (
	atSize     chunkAt = iota // the chunk's size in hex
	atSizeEnd                 // the rest of its line
	atData                    // its bytes, of which left remain
	atDataEnd                 // the line end behind them
	atTrailers                // trailer fields, up to an empty line
	atEnd
)

// take follows b and returns how many of its bytes belong to the body, and whether the body ends there.
func (d *body) take(b []byte) (n int, done bool) {
	switch d.kind {
	case untilEOF:
		return len(b), false
	case counted:
		k := min(d.left, int64(len(b)))
		d.left -= k
		return int(k), d.left == 0
	}
	for n < len(b) && d.at != atEnd {
		if d.at == atData {
			k := min(d.left, int64(len(b)-n))
			d.left -= k
			n += int(k)
			if d.left == 0 {
				d.at = atDataEnd
			}
			continue
		}
		d.chunk(b[n])
		n++
	}
	return n, d.at == atEnd
}

// chunk takes one byte outside a chunk's data. What is no valid framing ends the body: the connection closes anyway.
func (d *body) chunk(c byte) {
	switch d.at {
	case atSize:
		v := strings.IndexByte("0123456789abcdefABCDEF", c)
		if v >= 0 && d.line < 15 {
			if v > 15 {
				v -= 6
			}
			d.left, d.line = d.left<<4|int64(v), d.line+1
			return
		}
		if d.line == 0 || v >= 0 {
			d.at = atEnd
			return
		}
		d.at = atSizeEnd
		d.chunk(c)
	case atSizeEnd:
		switch {
		case c != '\n':
		case d.left == 0:
			d.at, d.line = atTrailers, 0
		default:
			d.at, d.line = atData, 0
		}
	case atDataEnd:
		if c == '\n' {
			d.at = atSize
		}
	case atTrailers:
		switch {
		case c == '\n' && d.line == 0:
			d.at = atEnd
		case c == '\n':
			d.line = 0
		case c != '\r':
			d.line = 1
		}
	}
}
