package relay

import (
	"bytes"
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

// parseReply reads a complete head, which is passed on as it is: it only has to be understood where the body ends.
func parseReply(head []byte) (r reply, ok bool) {
	lines := strings.Split(strings.TrimRight(string(head), "\r\n"), "\n")
	version, rest, _ := strings.Cut(strings.TrimSuffix(lines[0], "\r"), " ")
	code, _, _ := strings.Cut(strings.TrimLeft(rest, " "), " ")
	r.status, _ = strconv.Atoi(code)
	if !strings.HasPrefix(version, "HTTP/1.") || len(code) != 3 || r.status < 100 {
		return reply{}, false
	}
	r.body.kind = untilEOF
	for _, line := range lines[1:] {
		if strings.HasPrefix(line, " ") || strings.HasPrefix(line, "\t") {
			continue // the line before goes on (RFC 9112 section 5.2)
		}
		name, value, found := strings.Cut(strings.TrimSuffix(line, "\r"), ":")
		if !found || name == "" || strings.ContainsAny(name, " \t\r\x00") {
			return reply{}, false
		}
		value = strings.Trim(value, " \t")
		switch {
		case strings.EqualFold(name, "Transfer-Encoding"):
			if r.body = (body{kind: untilEOF}); hasToken(value, "chunked") {
				r.body.kind = chunked
			}
		case strings.EqualFold(name, handshake.RefusedField):
			r.refused = value
		case strings.EqualFold(name, handshake.SequenceField):
			r.sequence, _ = strconv.ParseUint(value, 10, 64) // 0: it says nothing
		case strings.EqualFold(name, handshake.TimeField):
			r.time, _ = strconv.ParseInt(value, 10, 64) // likewise
		case strings.EqualFold(name, "Content-Length") && r.body.kind != chunked:
			n, err := strconv.ParseInt(value, 10, 64)
			if err != nil || n < 0 {
				return reply{}, false
			}
			r.body = body{kind: counted, left: n}
		}
	}
	if r.status == 204 || r.status == 304 { // RFC 9110 sections 15.3.5 and 15.4.5: no body
		r.body = body{kind: counted}
	}
	return r, true
}

// withoutRefusal is a complete head without the fields by which an edge says that it has turned a handshake down.
func withoutRefusal(head []byte) []byte {
	out, dropping := make([]byte, 0, len(head)), false
	for line := range bytes.Lines(head) {
		if line[0] != ' ' && line[0] != '\t' { // else the line before goes on
			name, _, _ := bytes.Cut(line, []byte{':'})
			dropping = strings.EqualFold(string(name), handshake.RefusedField) || strings.EqualFold(string(name), handshake.SequenceField) ||
				strings.EqualFold(string(name), handshake.TimeField)
		}
		if !dropping {
			out = append(out, line...)
		}
	}
	return out
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
