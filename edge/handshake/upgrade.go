package handshake

import (
	"encoding/base64"
	"strings"
)

// checkUpgrade tells whether req is a WebSocket opening handshake (RFC 6455 section 4.2.1); if not, vd is the answer.
func checkUpgrade(req *Request) (vd Verdict, ok bool) {
	switch {
	case req.old:
		return refuseUpgrade("not_websocket", "not a WebSocket handshake: HTTP/1.0 knows no Upgrade"), false // RFC 9110 section 7.8
	case req.Method != "GET" || !req.lists("Upgrade", "websocket") || !req.lists("Connection", "upgrade"):
		return refuseUpgrade("not_websocket", "not a WebSocket handshake"), false
	case req.body: // whoever frames it differently than we do would take tunnel bytes for it
		return Refuse(400, "bad_request", "a handshake has no body"), false
	}
	if req.hasManyOptions() {
		return Refuse(400, "bad_request", "Connection names too many fields"), false
	}
	// Section 11.3: neither field may appear more than once in a request.
	version, n := req.Get("Sec-WebSocket-Version")
	if n > 1 {
		return Refuse(400, "bad_version", "more than one Sec-WebSocket-Version header"), false
	}
	if version != "13" {
		return refuseUpgrade("bad_version", "this edge speaks WebSocket version 13 only"), false
	}
	if key, n := req.Get("Sec-WebSocket-Key"); n != 1 || !isNonce(key) {
		return Refuse(400, "bad_key", "want one Sec-WebSocket-Key header of 16 bytes in base64"), false
	}
	return Verdict{}, true
}

// isNonce: "a base64-encoded value that, when decoded, is 16 bytes in length".
func isNonce(s string) bool {
	var b [18]byte // what DecodedLen asks for
	if len(s) != 24 {
		return false
	}
	n, err := base64.StdEncoding.Decode(b[:], []byte(s))
	return err == nil && n == 16
}

// lists tells whether a field, read as a comma-separated list over all its lines, has a member, without regard to case.
func (r *Request) lists(name, member string) bool {
	for i := range r.Fields {
		if !strings.EqualFold(r.Fields[i].Name, name) {
			continue
		}
		for s := range strings.SplitSeq(r.Fields[i].Value, ",") {
			if strings.EqualFold(strings.Trim(s, " \t"), member) {
				return true
			}
		}
	}
	return false
}
