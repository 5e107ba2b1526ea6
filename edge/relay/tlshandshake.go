package relay

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"sync"

	"github.com/unitgate/unitgate/edge/handshake"
)

const (
	recordAlert     = 21 // first byte of a record with an alert (RFC 8446 section 5.1)
	recordHandshake = 22 // with handshake messages

	// tlsAhead is how much of a peer may wait for its handshake to take it. What does not fit stays in the kernel.
	tlsAhead = 8 << 10
	// maxTLSHandshake is how much a peer's part of the handshake may be: hellos of browsers have 2 KiB, and we ask for no
	// certificate. crypto/tls alone would take 64 KiB for each message.
	maxTLSHandshake = 32 << 10
)

var (
	errPeerGone = errors.New("the peer is gone")
	errTooLong  = errors.New("the peer's part of the TLS handshake is longer than 32 KiB")
)

// tlsHandshake is a handshake in progress. A goroutine of its own runs it, because handshake errors of crypto/tls stay,
// also "come back later": its reads must wait. The poller brings what the peer sends and sends what comes out, so that it
// stays the only one to touch the socket.
//
// The goroutine holds one of the relay's permits while it computes and gives it back while it waits for the peer: slow
// ones take no turn from others.
type tlsHandshake struct {
	s       *session // stays the same until the handshake is done
	side    int      // the leg
	permits chan struct{}
	config  *tls.Config // for a client that has not begun yet

	// What the goroutine finds, to be read when it has ended.
	found   **handshake.Peer // as a client: the edge at the other end
	binding []byte           // of marks to this connection, if it is one between edges

	mu      sync.Mutex // guards what follows
	more    sync.Cond  // in or end has changed
	in      []byte     // from the peer
	end     error      // what comes after in: io.EOF, or errPeerGone at once
	out     []byte     // for the peer
	taken   int        // bytes that crypto/tls has got
	started bool
	heard   bool // something came
	paused  bool // the poller has stopped reading until in is empty
}

func newTLSConfig(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), hops *hopTLS) *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		CipherSuites:   suites(),
		NextProtos:     []string{"http/1.1"},
		GetCertificate: certificate,
		GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			return hops.forEdge(hello), nil // nil: this one
		},
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

func newTLSHandshake(s *session, side int) *tlsHandshake {
	h := &tlsHandshake{s: s, side: side, permits: s.e.r.tlsPermits}
	h.more.L = &h.mu
	return h
}

// beginTLS expects a TLS handshake of a new client, or of another edge.
func (e *engine) beginTLS(s *session, config *tls.Config) {
	s.state = stTLS
	s.tls = &tlsLeg{e: e, hs: newTLSHandshake(s, client)}
	s.tls.hs.config = config
}

// readTLS takes what the peer of leg i sends during its handshake.
func (e *engine) readTLS(s *session, i int) {
	h := e.tlsOf(s, i).hs
	for {
		room := h.room()
		if room <= 0 {
			return
		}
		n, err := s.legs[i].c.Read(e.buf[:room])
		switch again, later := readAgain(err); {
		case n > 0:
			if !e.fedTLS(s, i, e.buf[:n]) {
				return
			}
		case err != nil && again:
		case err != nil && later:
			return
		case err == nil && h.ends(io.EOF):
			return // it fails, unless all that it needs is there already
		default:
			e.fail(s, i)
			return
		}
	}
}

// fedTLS hands bytes to a handshake, which starts as soon as the client's first record is there: whoever connects and
// says nothing costs no goroutine. It reports whether there is a handshake.
func (e *engine) fedTLS(s *session, i int, b []byte) bool {
	t := e.tlsOf(s, i)
	h := t.hs
	if i == origin && !h.heard && b[0] != recordHandshake && b[0] != recordAlert {
		e.hopFailed(s, errPlain)
		return false
	}
	h.mu.Lock()
	h.heard = true
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
		t.conn = tls.Server(t, h.config)
		e.shakeHands(t)
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

// shakeHands runs a handshake.
func (e *engine) shakeHands(t *tlsLeg) {
	h := t.hs
	e.r.running.Add(1)
	go func() {
		defer e.r.running.Done()
		h.permits <- struct{}{}
		err := t.conn.Handshake()
		if err == nil {
			h.binding, err = bindingOf(t.conn)
		}
		<-h.permits
		e.post(func() { e.secured(t, h, err) })
	}()
}

// bindingOf is what binds a mark to a connection between edges; nil of another one.
func bindingOf(c *tls.Conn) ([]byte, error) {
	state := c.ConnectionState()
	if state.NegotiatedProtocol != handshake.HopProtocol {
		return nil, nil
	}
	return state.ExportKeyingMaterial(handshake.HopExporter, nil, handshake.HopBinding)
}

// secured takes the result of a handshake.
func (e *engine) secured(t *tlsLeg, h *tlsHandshake, err error) {
	s := h.s
	if e.tlsOf(s, h.side) != t {
		return // the peer left, or was too slow
	}
	t.hs = nil // its goroutine has ended: from here on the poller has conn for itself
	t.failed, t.hop = err != nil, h.binding != nil
	e.writeRaw(s, h.side, h.out)
	switch {
	case h.side == origin:
		e.hopSecured(s, h, err)
	case s.legs[client].c == nil:
	case err == nil:
		s.state, s.hs.binding = stHead, h.binding
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
	plain, err := e.decrypt(s, client, b, false)
	switch {
	case s.legs[client].c != c:
	case errors.Is(err, io.EOF): // it will never read our answer
		e.fail(s, client)
	case err != nil:
		e.failTLS(s, client, err)
	case len(plain) > 0:
		e.takeHead(s, plain)
	}
}

// abortTLS ends a handshake whose peer is gone; its goroutine comes back with an error that nobody looks at.
func (t *tlsLeg) abortTLS() {
	if t.hs != nil {
		t.hs.ends(errPeerGone)
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
	case errors.Is(h.end, errPeerGone) || len(h.in) == 0:
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

// wait has what was written sent, and waits for the peer without a permit.
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
func (h *tlsHandshake) post(f func(*engine, *session, int)) {
	s := h.s
	s.e.post(func() {
		if t := s.e.tlsOf(s, h.side); t != nil && t.hs == h {
			f(s.e, s, h.side)
		}
	})
}

// sendFlight sends what a handshake has written so far.
func (e *engine) sendFlight(s *session, i int) {
	h := e.tlsOf(s, i).hs
	h.mu.Lock()
	out := h.out
	h.out = nil
	h.mu.Unlock()
	e.writeRaw(s, i, out)
}
