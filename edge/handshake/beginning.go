package handshake

import (
	"bytes"
	"net/http"
	"strings"
)

// What a client's first bytes may be. One that speaks another protocol waits for an answer, maybe without ever sending a
// line's end: it is told at the first byte that no HTTP/1 request has there, and keeps no connection until its time is
// over. Only the request line is looked at, and no more of it than costs nothing when it comes byte by byte.
const (
	longestMethod = 64  // of methods; a longer one is judged when the head is complete
	nearTarget    = 256 // how far into the target control characters are looked for
)

// cannotBegin tells why no request begins with buf; nil: one may, or buf begins with an empty line that may not be there.
func cannotBegin(buf []byte) *Error {
	if len(buf) == 0 || buf[0] == '\n' || buf[0] == '\r' && (len(buf) == 1 || buf[1] == '\n') {
		return nil
	}
	n := 0
	for n < len(buf) && n < longestMethod && isTokenChar(buf[n]) {
		n++
	}
	switch {
	case n == len(buf) || n == longestMethod:
		return nil
	case n == 0 || buf[n] != ' ':
		return malformed("no HTTP/1 request begins like this: want a method, a space and a path")
	}
	if e := cannotFollow(buf[n+1:]); e != nil {
		if string(buf[:n]) == http.MethodHead {
			e.Request = &Request{Method: http.MethodHead}
		}
		return e
	}
	return nil
}

// cannotFollow is cannotBegin for what comes after the method.
func cannotFollow(rest []byte) *Error {
	line, _, whole := bytes.Cut(rest, []byte{'\n'})
	target, version, versioned := bytes.Cut(line, []byte{' '})
	if !beginsTarget(target) || len(target) == 0 && (versioned || whole) {
		return badTarget(string(target[:min(len(target), 1)])) // by the first byte alone, however many are there
	}
	for _, c := range target[:min(len(target), nearTarget)] {
		if (c < ' ' || c == 0x7f) && (c != '\r' || versioned) {
			return malformed("a control character in the request target")
		}
	}
	const want = "HTTP/"
	switch n := min(len(version), len(want)); {
	case versioned && string(version[:n]) != want[:n], versioned && whole && n < len(want):
		return malformed("malformed HTTP version")
	case whole && !versioned:
		return malformed("malformed request line")
	}
	return nil
}

// beginsTarget reports whether a target may begin so.
func beginsTarget(b []byte) bool {
	if len(b) == 0 || b[0] == '/' {
		return true
	}
	for _, scheme := range [...]string{"http://", "https://", "ws://", "wss://"} {
		if n := min(len(b), len(scheme)); strings.EqualFold(string(b[:n]), scheme[:n]) {
			return true
		}
	}
	return false
}
