package handshake

import (
	"net/http"
	"strconv"
)

// Refuse is the verdict that answers with status and a one-line reason: what Decide uses, and what a relay needs for
// 408, 429, 502 and 503. Set RetryAfter of the result where it helps.
func Refuse(status int, code, reason string) Verdict {
	return Verdict{Action: Answer, Status: status, Code: code, Reason: reason}
}

// refuseUpgrade is a 426. It names the protocol, since "the server MUST send an Upgrade header field in a 426 response
// to indicate the required protocol(s)" (RFC 9110 section 15.5.22), and the version, so that a client of another one
// learns it at once (RFC 6455 section 4.4).
func refuseUpgrade(code, reason string) Verdict {
	vd := Refuse(http.StatusUpgradeRequired, code, reason)
	vd.Header = []Field{{Name: "Upgrade", Value: "websocket"}, {Name: "Sec-WebSocket-Version", Value: "13"}}
	return vd
}

// AppendAnswer appends the whole HTTP response of an Answer to req, which is nil if that was never read: its fields and
// the reason as one line, after which the connection is closed. A control character in a field or in the reason becomes
// "?", so that nothing in a Verdict can break out of its line.
func AppendAnswer(dst []byte, req *Request, vd *Verdict) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(vd.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(vd.Status)...)
	contentType := vd.ContentType
	if contentType == "" {
		contentType = "text/plain; charset=utf-8"
	}
	dst = append(dst, "\r\nContent-Type: "...)
	dst = append(dst, contentType...)
	dst = append(dst, "\r\nContent-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(vd.Reason)+1), 10)
	connection := "close"
	for i := range vd.Header {
		f := &vd.Header[i]
		if f.Name == "Upgrade" { // RFC 9110 section 7.8: its sender MUST also name it in Connection
			connection = "close, Upgrade"
		}
		dst = append(dst, "\r\n"...)
		dst = append(dst, f.Name...)
		dst = append(dst, ": "...)
		dst = appendLine(dst, f.Value)
	}
	if vd.RetryAfter > 0 {
		dst = append(dst, "\r\nRetry-After: "...)
		dst = strconv.AppendInt(dst, int64(vd.RetryAfter), 10)
	}
	dst = req.appendShared(dst)
	if req.Marked() {
		dst = append(dst, "\r\n"+RefusedField+": "...)
		dst = append(dst, vd.Code...)
	}
	dst = append(dst, "\r\nConnection: "...)
	dst = append(dst, connection...)
	dst = append(dst, "\r\n\r\n"...)
	if req != nil && req.Method == http.MethodHead { // RFC 9110 section 9.3.2
		return dst
	}
	dst = appendLine(dst, vd.Reason)
	return append(dst, '\n')
}

// appendLine appends s with every control character replaced by one "?".
func appendLine(dst []byte, s string) []byte {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c < ' ' || c == 0x7f {
			c = '?'
		}
		dst = append(dst, c)
	}
	return dst
}
