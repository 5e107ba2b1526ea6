package relay

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"sync"
)

const (
	recordHandshake = 22 // first byte of a record with handshake messages (RFC 8446 section 5.1)

	// tlsAhead is how much of a client may wait for its handshake to take it. What does not fit stays in the kernel.
	tlsAhead = 8 << 10
	// maxTLSHandshake is how much a client's part of the handshake may be: hellos of browsers have 2 KiB, and we ask for no
	// certificate. crypto/tls alone would take 64 KiB for each message.
	maxTLSHandshake = 32 << 10
)

var (
	errClientGone = errors.New("the client is gone")
	errTooLong    = errors.New("the client's part of the TLS handshake is longer than 32 KiB")
)

// tlsHandshake is a handshake in progress. A goroutine of its own runs it, because handshake errors of crypto/tls stay,
// also "come back later": its reads must wait. The poller brings what the client sends and sends what comes out, so that
// it stays the only one to touch the socket.
//
// The goroutine holds one of the relay's permits while it computes and gives it back while it waits for the client: slow
// clients take no turn from others.
type tlsHandshake struct {
	s       *session // stays the same until the handshake is done
	permits chan struct{}

	mu      sync.Mutex // guards what follows
	more    sync.Cond  // in or end has changed
	in      []byte     // from the client
	end     error      // what comes after in: io.EOF, or errClientGone at once
	out     []byte     // for the client
	taken   int        // bytes that crypto/tls has got
	started bool
	paused  bool // the poller has stopped reading until in is empty
}

func newTLSConfig(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   suites(),
		NextProtos:     []string{"http/1.1"},
		GetCertificate: certificate,
	}
}

// suites are those of TLS 1.2 that are offered: with forward secrecy and authenticated encryption, as RFC 9325 section
// 4.2 recommends. Go offers CBC suites besides, whose padding has been attacked since 2002 (section 4.1 of that RFC, RFC
// 7457 section 2.5); each TLS 1.2 client of the last ten years has one of these. TLS 1.3 has no others.
func suites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
}

// newTLSPermits: one processor is left to the pollers, so that a storm of handshakes does not stand before every message
// of the sessions that are there already.
func newTLSPermits(pollers int) chan struct{} { return make(chan struct{}, max(1, pollers-1)) }

// beginTLS expects a TLS handshake of a new client.
func (e *engine) beginTLS(s *session) {
	s.state = stTLS
	h := &tlsHandshake{s: s, permits: e.r.tlsPermits}
	h.more.L = &h.mu
	s.tls = &tlsLeg{e: e, hs: h}
}

// readTLS takes what a client sends during its handshake.
func (e *engine) readTLS(s *session) {
	h := s.tls.hs
	for {
		room := h.room()
		if room <= 0 {
			return
		}
		n, err := s.legs[client].c.Read(e.buf[:room])
		switch again, later := readAgain(err); {
		case n > 0:
			if !e.fedTLS(s, e.buf[:n]) {
				return
			}
		case err != nil && again:
		case err != nil && later:
			return
		case err == nil && h.ends(io.EOF):
			return // it fails, unless all that it needs is there already
		default:
			e.close(s, client)
			return
		}
	}
}

// fedTLS hands bytes to a handshake, which starts as soon as the client's first record is there: whoever connects and
// says nothing costs no goroutine. It reports whether there is a handshake.
func (e *engine) fedTLS(s *session, b []byte) bool {
	h := s.tls.hs
	h.mu.Lock()
	h.in = append(h.in, b...)
	first, start := h.in[:min(len(h.in), 5)], false
	if h.started {
		h.more.Signal()
	} else if first[0] == recordHandshake {
		start = len(h.in) >= tlsAhead || len(first) == 5 && len(h.in) >= 5+int(binary.BigEndian.Uint16(first[3:]))
		h.started = start
	}
	started := h.started
	h.mu.Unlock()
	switch {
	case start:
		e.startTLS(s)
	case !started && first[0] != recordHandshake:
		e.refusePlain(s, first[0])
		return false
	}
	return true
}

// refusePlain ends a connection that begins with something else than TLS.
func (e *engine) refusePlain(s *session, first byte) {
	if first < 'A' || first > 'Z' {
		e.close(s, client)
		return
	}
	s.tls = nil // a request: its sender understands a plain answer only
	e.refuse(s, 400, "not_tls", "this port speaks TLS only: use https or wss")
}

func (e *engine) startTLS(s *session) {
	t := s.tls
	t.conn = tls.Server(t, e.r.tls)
	e.r.running.Add(1)
	go func() {
		defer e.r.running.Done()
		t.hs.permits <- struct{}{}
		err := t.conn.Handshake()
		<-t.hs.permits
		e.post(func() { e.secured(s, err) })
	}()
}

// secured takes the result of a handshake.
func (e *engine) secured(s *session, err error) {
	if s.state != stTLS {
		return // the client left, or was too slow
	}
	h := s.tls.hs
	s.tls.hs = nil // its goroutine has ended: from here on the poller has conn for itself
	s.tls.failed = err != nil
	e.writeRaw(s, client, h.out)
	switch {
	case s.legs[client].c == nil:
	case err == nil:
		s.state = stHead
		// At once, even without bytes: what crypto/tls or the handshake has taken already comes with no event.
		e.openHead(s, h.in)
		e.readHead(s)
	case h.end != nil:
		e.close(s, client)
	default:
		e.r.log.Debug("TLS handshake failed", "error", err)
		e.linger(s) // so that the alert is read
	}
}

// openHead is takeHead for bytes of a TLS client.
func (e *engine) openHead(s *session, b []byte) {
	c := s.legs[client].c
	plain, err := e.decrypt(s, b, false)
	switch {
	case s.legs[client].c != c:
	case errors.Is(err, io.EOF): // it will never read our answer
		e.fail(s, client)
	case err != nil:
		e.failTLS(s, err)
	case len(plain) > 0:
		e.takeHead(s, plain)
	}
}

// abortTLS ends a handshake whose client is gone; its goroutine comes back with an error that nobody looks at.
func (t *tlsLeg) abortTLS() {
	if t.hs != nil {
		t.hs.ends(errClientGone)
	}
}

// room is how many bytes the poller may add to in.
func (h *tlsHandshake) room() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := tlsAhead - len(h.in)
	h.paused = n <= 0
	return n
}

// ends says that nothing comes any more; false if there is no goroutine to hear it.
func (h *tlsHandshake) ends(err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.end = err
	h.more.Signal()
	return h.started
}

// read is Read of the handshake's goroutine.
func (h *tlsHandshake) read(record *recordEnd, p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.in) == 0 && h.end == nil {
		h.wait()
	}
	switch {
	case errors.Is(h.end, errClientGone) || len(h.in) == 0:
		return 0, h.end
	case h.taken > maxTLSHandshake:
		return 0, errTooLong
	}
	n := copy(p, h.in[:record.within(h.in[:min(len(h.in), len(p))])])
	h.in = h.in[n:]
	h.taken += n
	if len(h.in) == 0 && h.paused {
		h.paused = false
		h.post((*engine).readTLS)
	}
	return n, nil
}

// wait has what was written sent, and waits for the client without a permit.
func (h *tlsHandshake) wait() {
	if len(h.out) > 0 {
		h.post((*engine).sendFlight)
	}
	<-h.permits
	for len(h.in) == 0 && h.end == nil {
		h.more.Wait()
	}
	h.mu.Unlock() // the poller must not wait for a permit
	h.permits <- struct{}{}
	h.mu.Lock()
}

// write is Write of the handshake's goroutine.
func (h *tlsHandshake) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.out = append(h.out, p...)
	return len(p), nil
}

// post has the poller do something for the handshake if it is still running then.
func (h *tlsHandshake) post(f func(*engine, *session)) {
	s := h.s
	s.e.post(func() {
		if s.state == stTLS && s.tls.hs == h {
			f(s.e, s)
		}
	})
}

// sendFlight sends what a handshake has written so far.
func (e *engine) sendFlight(s *session) {
	h := s.tls.hs
	h.mu.Lock()
	out := h.out
	h.out = nil
	h.mu.Unlock()
	e.writeRaw(s, client, out)
}
