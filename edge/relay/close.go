package relay

import (
	"encoding/binary"
	"unicode/utf8"
)

// closeReason is why this edge ends a session. It decides what the Close frame says, and with that what a client does.
//
//	reason     code                 text                    the client should
//	moved      View.CloseCode 1012  moved to <unit>         reconnect at once: it is redirected to its new unit
//	operator   View.CloseCode 1012  evicted by operator     reconnect
//	removed    1001 Going Away      domain removed          not come back: the host is answered with 421
//	shutdown   1001 Going Away      edge is shutting down   reconnect: another edge of the unit takes it
//	no lease   none, a reset        none                    reconnect: another edge of the unit may have one
//	-          4302                 <URL of the unit>       connect there at once; see handshake.Accept
//
// Towards an origin there is one code only, 1001 Going Away, for a client that did not answer our Close.
// 1012 is Service Restart of the IANA registry, "a client may reconnect, and should do so with a random delay"; unlike
// 1001 every client library takes it for something else than an ordinary end.
type closeReason uint8

const (
	notClosing closeReason = iota
	becauseMoved
	becauseOperator
	becauseRemoved
	becauseShutdown
	becauseNoLease
)

const (
	closeGoingAway uint16 = 1001 // RFC 6455 section 7.4.1
	closeRestart   uint16 = 1012 // what a View without a close code means
	closeElsewhere uint16 = 4302 // for those who cannot follow a 302; of the codes for private use, section 7.4.2

	// maxCloseText: a control frame has at most 125 bytes of payload (RFC 6455 section 5.5), two of them are the code.
	maxCloseText = 123
)

// closeOf is the code and text for a reason; code is the view's, unit is where the key belongs from now on.
func closeOf(why closeReason, code uint16, unit string) (uint16, string) {
	if code == 0 {
		code = closeRestart
	}
	switch why {
	case becauseShutdown:
		return closeGoingAway, "edge is shutting down"
	case becauseRemoved:
		return closeGoingAway, "domain removed"
	case becauseOperator:
		return code, "evicted by operator"
	}
	return code, "moved to " + unit
}

// appendClose appends an unmasked Close frame, as servers send it. The text must be UTF-8 (RFC 6455 section 5.5.1) and
// is cut on a rune's border if it is too long.
func appendClose(dst []byte, code uint16, text string) []byte {
	if len(text) > maxCloseText {
		n := maxCloseText
		for n > 0 && !utf8.RuneStart(text[n]) {
			n--
		}
		text = text[:n]
	}
	dst = append(dst, 0x80|opClose, byte(2+len(text)))
	dst = binary.BigEndian.AppendUint16(dst, code)
	return append(dst, text...)
}

// maskedGoingAway is the Close frame that an origin gets in the place of a silent client's. Clients must mask (RFC 6455
// section 5.3). The key guards proxies between a browser's script and a server against chosen bytes; here nobody
// chooses any, so it is constant.
var maskedGoingAway = [...]byte{0x80 | opClose, 0x80 | 2, 0, 0, 0, 0, byte(closeGoingAway >> 8), byte(closeGoingAway & 0xff)}
