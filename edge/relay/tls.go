package relay

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

// TLS is the standard crypto/tls, driven by the poller: no goroutine waits for an idle connection. The handshake runs in
// a transient goroutine, see tlshandshake.go. Afterwards a tls.Conn works as a codec: decrypt has it read what the socket
// has given, encrypt has it write into a scratch that goes to the socket at once. What crypto/tls wants to know for that:
//
//   - Read keeps an incomplete record and may be called again if it ended with a net.Error that is Temporary; all other
//     errors stay. Write errors always stay, so the Write underneath takes everything.
//   - Read also writes: answers to KeyUpdate, alerts. They are sent after each decrypt, and nothing stays in the scratch:
//     the next session's bytes go through it.
//   - Read may return bytes together with an error.
//   - It keeps a buffer of twice what it was last handed beyond one record, so it never gets more than one.

const (
	maxSealed = 16<<10 + 2048 + 5 // the longest record, its header included (RFC 5246 section 6.2.3)

	// maxAnswers bounds what may wait for a peer: the other leg's bytes alone stop at one read. A peer that asks for a
	// key update again and again (RFC 8446 section 4.6.3) and reads no answer comes to more.
	maxAnswers = 256 << 10
)

// tlsLeg is the TLS of a leg, and the net.Conn that its tls.Conn works on. The poller owns it, except for what a handshake
// in progress uses.
type tlsLeg struct {
	conn   *tls.Conn
	e      *engine
	hs     *tlsHandshake // nil once it is done
	record recordEnd
	failed bool // no TLS is spoken any more: what still comes is discarded
	hop    bool // at its other end is an edge, not a client
}

// tlsOf is the TLS of leg i; nil if that is gone, or speaks none. Of the legs to origins only those to other edges do: a
// session keeps no place for it.
func (e *engine) tlsOf(s *session, i int) *tlsLeg {
	switch {
	case i == client:
		return s.tls
	case s.via == 0:
		return nil
	}
	return e.hops[s]
}

// tlsBuffers are shared by all sessions of an engine. Nothing in them is valid for longer than one call.
type tlsBuffers struct {
	in    []byte // ciphertext that Read may have
	ended bool   // behind it comes the peer's FIN
	out   []byte // what was sealed
	plain []byte // what was opened
}

// laterError says that there are no more bytes for now. crypto/tls does not keep an error that is temporary.
type laterError struct{}

func (laterError) Error() string   { return "nothing to read for now" }
func (laterError) Timeout() bool   { return true }
func (laterError) Temporary() bool { return true }

// Read gives crypto/tls ciphertext, never beyond the end of a record.
func (t *tlsLeg) Read(p []byte) (int, error) {
	if t.hs != nil {
		return t.hs.read(&t.record, p)
	}
	x := &t.e.tls
	switch {
	case len(x.in) > 0:
		n := copy(p, x.in[:t.record.within(x.in[:min(len(x.in), len(p))])])
		x.in = x.in[n:]
		return n, nil
	case x.ended:
		return 0, io.EOF
	}
	return 0, laterError{}
}

// Write takes ciphertext from crypto/tls, all of it.
func (t *tlsLeg) Write(p []byte) (int, error) {
	if t.hs != nil {
		return t.hs.write(p)
	}
	t.e.tls.out = append(t.e.tls.out, p...)
	return len(p), nil
}

// The rest of net.Conn. The engine closes connections, and its deadlines are in fifos: those that crypto/tls sets around
// close_notify must not do anything, since nothing here waits.
func (t *tlsLeg) Close() error                     { return nil }
func (t *tlsLeg) LocalAddr() net.Addr              { return noAddr{} }
func (t *tlsLeg) RemoteAddr() net.Addr             { return noAddr{} }
func (t *tlsLeg) SetDeadline(time.Time) error      { return nil }
func (t *tlsLeg) SetReadDeadline(time.Time) error  { return nil }
func (t *tlsLeg) SetWriteDeadline(time.Time) error { return nil }

type noAddr struct{}

func (noAddr) Network() string { return "tcp" }
func (noAddr) String() string  { return "" }

// readAll reads r until it has nothing more for now. buf is larger than all it can have.
func readAll(r io.Reader, buf []byte) (n int, err error) {
	for {
		k, err := r.Read(buf[n:])
		n += k
		switch {
		case errors.Is(err, laterError{}):
			return n, nil
		case err != nil:
			return n, err
		case n == len(buf):
			return n, io.ErrShortBuffer // Read would return nothing, for ever
		}
	}
}

// decrypt opens what came from leg i, or with ended its FIN, and sends what that calls for. The plaintext is valid until
// the next decrypt, whatever err is: io.EOF for the end of what the peer says; anything else means that it speaks no TLS,
// was tampered with or cut short, or that the leg is gone.
func (e *engine) decrypt(s *session, i int, b []byte, ended bool) (plain []byte, err error) {
	x, t := &e.tls, e.tlsOf(s, i)
	if x.plain == nil {
		x.plain = make([]byte, readSize+2*maxSealed)
	}
	x.in, x.ended, x.out = b, ended, x.out[:0]
	n, err := readAll(t.conn, x.plain)
	answers := x.out
	x.in, x.ended, x.out = nil, false, x.out[:0]
	t.failed = err != nil && !errors.Is(err, io.EOF)
	e.writeRaw(s, i, answers)
	if s.legs[i].pending > maxAnswers {
		t.failed, err = true, errors.New("too many key updates without reading the answers")
	}
	return x.plain[:n], err
}

// encrypt seals b for the peer. The result is valid until the next encrypt or decrypt.
func (e *engine) encrypt(t *tlsLeg, b []byte) []byte {
	x := &e.tls
	x.out = x.out[:0]
	_, _ = t.conn.Write(b) // fails after an alert or close_notify only, when nothing may be sent
	sealed := x.out
	x.out = x.out[:0]
	return sealed
}

// closeNotify is what tells the peer that nothing more comes: close_notify (RFC 8446 section 6.1).
func (e *engine) closeNotify(t *tlsLeg) []byte {
	if t.hs != nil || t.failed {
		return nil
	}
	x := &e.tls
	x.out = x.out[:0]
	_ = t.conn.CloseWrite() // fails where Write does
	sealed := x.out
	x.out = x.out[:0]
	return sealed
}

// receivedTLS handles bytes read from leg i, which speaks TLS: received and eof for what is in them.
func (e *engine) receivedTLS(s *session, i int, b []byte) {
	if e.tlsOf(s, i).failed {
		return
	}
	c := s.legs[i].c
	plain, err := e.decrypt(s, i, b, false)
	if len(plain) > 0 && s.legs[i].c == c {
		e.received(s, i, plain)
	}
	switch {
	case s.legs[i].c != c || err == nil:
	case errors.Is(err, io.EOF):
		s.legs[i].flags |= ended
		e.eof(s, i)
	default:
		e.failTLS(s, i, err)
	}
}

// endsWell reports whether the FIN of a peer that speaks TLS stands between two records. Then it counts as the end of what
// the peer says even without close_notify, which many leave out: frames have lengths of their own, so that nothing can be
// cut off unseen.
func (e *engine) endsWell(s *session, i int) bool {
	if e.tlsOf(s, i).failed {
		return true
	}
	_, err := e.decrypt(s, i, nil, true)
	return errors.Is(err, io.EOF) && s.legs[i].c != nil
}

// failTLS ends a leg whose peer has broken the protocol; an alert has told it so.
func (e *engine) failTLS(s *session, i int, err error) {
	e.r.log.Debug("TLS failed", "leg", i, "error", err)
	// Bytes that nobody has read would turn the end into a RST, which takes the alert away from its reader.
	for range maxReads {
		if c := s.legs[i].c; c == nil {
			return
		} else if n, _ := c.Read(e.buf); n <= 0 {
			break
		}
	}
	e.fail(s, i)
}

// recordEnd follows record headers (RFC 8446 section 5.1) in what is handed to crypto/tls.
type recordEnd struct {
	left uint16 // bytes still to come of the current record's body
	have uint8  // bytes of its header that have passed
	high uint8  // of its length
}

// within is how many bytes of b belong to the current record.
func (r *recordEnd) within(b []byte) int {
	i := 0
	for ; r.have < 5 && i < len(b); i++ {
		switch r.have {
		case 3:
			r.high = b[i]
		case 4:
			r.left = uint16(r.high)<<8 | uint16(b[i])
		}
		r.have++
	}
	if r.have < 5 {
		return i
	}
	n := min(int(r.left), len(b)-i)
	if r.left -= uint16(n); r.left == 0 {
		r.have = 0
	}
	return i + n
}
