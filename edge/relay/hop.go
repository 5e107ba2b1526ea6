package relay

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
	origins "github.com/unitgate/unitgate/edge/origin"
)

// TLS between edges. Each shows the key that the journal holds of it: the certificate around it is signed by itself and
// has no name, since nobody asks for one. The edge that passes a handshake on knows by the key whom it has reached; who
// has passed it on, the mark says, which is bound to the connection (handshake.HopExporter). So the other side needs no
// certificate, and clients are never asked for one.
//
// Edges meet on the listeners that clients come to, with or without TLS: handshake.HopProtocol tells them apart. On a
// listener without TLS no request begins with the first byte of a TLS handshake.
//
// Versions before speak plain HTTP to each other. Whether an edge is newer the journal tells of most (Peer.Sure); with the
// others TLS is tried first, and what has once been met over TLS under its key is never spoken to otherwise.

// plainFor is how long an edge is not asked again for TLS that has answered in plain.
const plainFor = time.Minute

// hopTLS is what a relay needs for that. All of it may be used concurrently.
type hopTLS struct {
	server *tls.Config // for edges
	only   *tls.Config // on listeners where nobody else speaks TLS

	mu    sync.Mutex               // guards what follows
	open  bool                     // there are edges to speak to
	plain map[string]time.Duration // by key, edges that know no TLS: until when, by Relay.now
	met   map[string]bool          // by key, those that do
}

var (
	errNoEdge = errors.New("no edge: on this port only edges speak TLS")
	errPlain  = errors.New("it answers something else than TLS")
)

// newHopTLS takes the private half of the edge's key; without one there is nothing, and nil.
func newHopTLS(key ed25519.PrivateKey) (*hopTLS, error) {
	if key == nil {
		return nil, nil
	}
	about := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, about, about, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("certificate for other edges: %w", err)
	}
	x := &hopTLS{plain: map[string]time.Duration{}, met: map[string]bool{}}
	x.server = &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{handshake.HopProtocol}, SessionTicketsDisabled: true,
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}},
	}
	x.only = &tls.Config{MinVersion: tls.VersionTLS13, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if c := x.forEdge(hello); c != nil {
			return c, nil
		}
		return nil, errNoEdge
	}}
	return x, nil
}

// forEdge is the configuration for an edge that begins so; nil if it is none.
func (x *hopTLS) forEdge(hello *tls.ClientHelloInfo) *tls.Config {
	if x == nil || !slices.Contains(hello.SupportedProtos, handshake.HopProtocol) || !x.isOpen() {
		return nil
	}
	return x.server
}

func (x *hopTLS) isOpen() bool {
	if x == nil {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.open
}

// install forgets edges that a view does not know any more.
func (x *hopTLS) install(v *handshake.View) {
	if x == nil {
		return
	}
	keys := map[string]bool{}
	for _, p := range v.Peers {
		keys[string(p.Key)] = true
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.open = len(v.Peers) > 0
	for k := range x.met {
		if !keys[k] {
			delete(x.met, k)
		}
	}
	for k := range x.plain {
		if !keys[k] {
			delete(x.plain, k)
		}
	}
}

// speaks reports whether TLS is to be spoken to an edge.
func (x *hopTLS) speaks(p *handshake.Peer, now time.Duration) bool {
	if x == nil || p.Key == nil {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	until, ok := x.plain[string(p.Key)]
	return !ok || now >= until
}

// meet notes that an edge has spoken TLS.
func (x *hopTLS) meet(p *handshake.Peer) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.met[string(p.Key)] = true
	delete(x.plain, string(p.Key))
}

// unmet notes that an edge has answered in plain, and reports whether it may: it is then spoken to in plain for a while.
func (x *hopTLS) unmet(p *handshake.Peer, now time.Duration) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p.Sure || x.met[string(p.Key)] {
		return false
	}
	x.plain[string(p.Key)] = now + plainFor
	return true
}

// knows reports whether an edge has spoken TLS.
func (x *hopTLS) knows(p *handshake.Peer) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.met[string(p.Key)]
}

// ask has an edge asked for TLS again that was spoken to in plain.
func (x *hopTLS) ask(p *handshake.Peer) {
	if x == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.plain, string(p.Key))
}

// client is the configuration towards an edge, or the one whose place it takes, which may still be the one that accepts.
// found becomes the one that it is.
func (x *hopTLS) client(p *handshake.Peer, found **handshake.Peer) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{handshake.HopProtocol},
		InsecureSkipVerify: true, //nolint:gosec // its key is compared with the journal's instead, which no authority vouches for
		VerifyConnection: func(c tls.ConnectionState) error {
			if c.NegotiatedProtocol != handshake.HopProtocol {
				return errors.New("it is no edge, or one of a version before")
			}
			key, ok := c.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
			for _, p := range [...]*handshake.Peer{p, p.Before} {
				if ok && p != nil && p.Key != nil && key.Equal(p.Key) {
					*found = p
					return nil
				}
			}
			return errors.New("it has another key than the journal says")
		},
	}
}

// hopDial is how a handshake is passed on.
type hopDial struct {
	before  []*origins.Origin // of edges: to be asked as those whose place they take, see handshake.Peer
	to      *handshake.Peer   // who is at the other end of the TLS connection; nil: there is none
	binding []byte            // of marks to that connection
}

// anew forgets the connection before.
func (d *hopDial) anew() {
	if d != nil {
		d.to, d.binding = nil, nil
	}
}

// reaches is the edge that s is to find where it connects to; nil if s is not passed on, or the edge has gone.
func (s *session) reaches() *handshake.Peer {
	h := s.hs
	if h.edges == nil || s.origin == nil {
		return nil
	}
	p := h.edges.At(s.origin.Address())
	if p != nil && p.Before != nil && slices.Contains(h.hop.before, s.origin) {
		return p.Before
	}
	return p
}

// secureHop begins TLS with another unit's edge, to which s has connected.
func (e *engine) secureHop(s *session, p *handshake.Peer) {
	if !e.attach(s) {
		return
	}
	s.state = stHop
	e.startConnect(s) // as long again
	h := newTLSHandshake(s, origin)
	t := &tlsLeg{e: e, hs: h, hop: true}
	h.found = new(*handshake.Peer) // not in h, which the connection would keep
	t.conn = tls.Client(t, e.r.hops.client(p, h.found))
	e.hops[s] = t
	h.started = true
	e.shakeHands(t)
}

// hopSecured takes the result of that. R10: the request is the first that the other edge learns of a client.
func (e *engine) hopSecured(s *session, h *tlsHandshake, err error) {
	switch {
	case s.legs[origin].c == nil:
	case err != nil:
		e.hopFailed(s, err)
	case !e.leased() || !e.stillServed(s):
		e.decideAgain(s)
	default:
		s.hs.hop.to, s.hs.hop.binding = *h.found, h.binding
		e.r.hops.meet(s.hs.hop.to)
		e.request(s)
		if s.state == stReply && s.legs[origin].c != nil {
			e.receivedTLS(s, origin, h.in) // what the handshake has taken already comes with no event
			e.pump(s, origin)
		}
	}
}

// hopFailed goes on after an edge with which TLS has failed. One that answers in plain is of a version before, if it may
// be, or one of these still accepts at the address of its successor.
func (e *engine) hopFailed(s *session, err error) {
	edge := s.origin
	again := errors.Is(err, errPlain) && e.mayBePlain(s)
	e.r.log.Debug("TLS with another unit's edge failed", "edge", edge.Address(), "plain", again, "error", err)
	if !again {
		e.blame(s, "TLS: "+err.Error())
	}
	s.deadline.stop()
	e.close(s, origin)
	if again {
		e.tryAgain(s)
	} else {
		e.tryAfter(s, edge)
	}
}

// mayBePlain reports whether one to whom s has connected may know no TLS, and has s try that.
func (e *engine) mayBePlain(s *session) bool {
	x, now, p := e.r.hops, e.r.now(), s.reaches()
	switch {
	case p == nil:
		return false
	case x.unmet(p, now):
		return true
	case p.Before == nil || x.knows(p) || slices.Contains(s.hs.hop.before, s.origin) || !x.unmet(p.Before, now):
		return false
	}
	s.hs.hop.before = append(s.hs.hop.before, s.origin)
	return true
}

// hopBegins reports whether b, the first that comes on a connection where a request is awaited, is an edge's that begins
// TLS. It does so on listeners without TLS, too.
func (e *engine) hopBegins(s *session, b []byte) bool {
	return b[0] == recordHandshake && s.tls == nil && s.hs.buf == nil && e.r.hops.isOpen()
}

// welcomeHop begins with it.
func (e *engine) welcomeHop(s *session, b []byte) {
	e.beginTLS(s, e.r.hops.only)
	if e.fedTLS(s, client, b) {
		e.readTLS(s, client)
	}
}
