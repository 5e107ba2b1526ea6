package probe

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/unitgate/unitgate/edge/front"
	"github.com/unitgate/unitgate/edge/handshake"
	"github.com/unitgate/unitgate/events"
)

// Front is an edge's front door.
type Front struct {
	Addr          string        // HOST:PORT that it advertises
	ProxyProtocol front.Trusted // who has to say there whom it speaks for: this process, if its address is among them
}

// Try opens a session there as a client would, sends a ping (RFC 6455 section 5.5.2), waits for its pong, and closes. It
// carries no routerId: secret tells the edge that it is its own. The origin sees an ordinary session of the user agent
// unitgate-probe.
func (f Front) Try(ctx context.Context, secret string, service events.Service) events.TriedSession {
	begun := time.Now()
	t := events.TriedSession{Service: service}
	err := f.try(ctx, secret, &t, false)
	if t.Status == http.StatusBadRequest { // as a port answers that wants TLS
		again := t
		again.Status = 0
		if e := f.try(ctx, secret, &again, true); again.Status != 0 {
			t, err = again, e
		}
	}
	if err != nil {
		// The socket's deadline may be over a moment before the context's.
		if t.Failed = err.Error(); ctx.Err() != nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Failed = "no answer in time: " + t.Failed
		}
	}
	t.Took = events.Duration(time.Since(begun))
	return t
}

func (f Front) try(ctx context.Context, secret string, t *events.TriedSession, overTLS bool) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", f.Addr)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if at, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(at) // fails only on a closed connection
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+t.Host+t.Path, http.NoBody)
	if err != nil {
		return err
	}
	var nonce [16]byte
	rand.Read(nonce[:]) // never fails, see crypto/rand
	for name, value := range map[string]string{
		"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": base64.StdEncoding.EncodeToString(nonce[:]),
		"User-Agent": "unitgate-probe", handshake.ProbeField: secret,
	} {
		req.Header.Set(name, value)
	}
	if local, ok := conn.LocalAddr().(*net.TCPAddr); ok && f.ProxyProtocol.Has(local.AddrPort().Addr()) {
		if _, err := io.WriteString(conn, "PROXY UNKNOWN\r\n"); err != nil { // for itself
			return err
		}
	}
	if overTLS {
		// Which names its certificates have, and until when, is asked elsewhere: it is this edge that is tried.
		conn = tls.Client(conn, &tls.Config{ServerName: events.HostOnly(t.Host), InsecureSkipVerify: true}) //nolint:gosec // see above
	}
	if err := req.Write(conn); err != nil {
		return err
	}
	in := bufio.NewReader(io.LimitReader(conn, maxTalk))
	resp, err := http.ReadResponse(in, req)
	if err != nil {
		return fmt.Errorf("no HTTP answer: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if t.Status = resp.StatusCode; t.Status != http.StatusSwitchingProtocols {
		t.Closed = resp.Header.Get(handshake.ProbeField) == handshake.ProbeClosed
		line, _ := bufio.NewReader(io.LimitReader(resp.Body, 200)).ReadString('\n')
		return fmt.Errorf("answered %d %q", t.Status, line)
	}
	return ping(conn, in)
}

// maxTalk bounds what is read of one session, in bytes: an origin may greet before it answers.
const maxTalk = 1 << 20

// Opcodes of RFC 6455 section 5.2.
const (
	opClose = 8
	opPing  = 9
	opPong  = 10
)

var errNoPong = errors.New("the origin closed the session before it answered a ping")

// ping sends a ping and reads frames until its pong, and then says goodbye.
func ping(conn io.Writer, in *bufio.Reader) error {
	const payload = "unitgate"
	if err := send(conn, opPing, payload); err != nil {
		return err
	}
	for {
		op, body, err := next(in)
		switch {
		case err != nil:
			return fmt.Errorf("no pong: %w", err)
		case op == opClose:
			return errNoPong
		case op == opPong && string(body) == payload:
			return send(conn, opClose, "\x03\xe8") // 1000
		}
	}
}

// send writes a masked control frame (section 5.3). The mask is zero: nothing between here and the origin could be tricked
// by what we say.
func send(w io.Writer, op byte, payload string) error {
	frame := append([]byte{0x80 | op, 0x80 | byte(len(payload)), 0, 0, 0, 0}, payload...)
	_, err := w.Write(frame)
	return err
}

// next reads a frame of a server. Only a control frame's payload is kept.
func next(in *bufio.Reader) (op byte, payload []byte, err error) {
	var head [2]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, nil, err
	}
	op = head[0] & 0x0f
	length := int64(head[1] & 0x7f)
	if op >= opClose {
		payload = make([]byte, length)
		_, err = io.ReadFull(in, payload)
		return op, payload, err
	}
	var ext [8]byte
	size := map[int64]int{126: 2, 127: 8}[length]
	if _, err := io.ReadFull(in, ext[8-size:]); err != nil {
		return 0, nil, err
	}
	if size > 0 {
		length = int64(binary.BigEndian.Uint64(ext[:]) & math.MaxInt64)
	}
	_, err = io.CopyN(io.Discard, in, length)
	return op, nil, err
}
