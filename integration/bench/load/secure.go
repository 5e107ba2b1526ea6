//go:build linux

package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/unitgate/unitgate/integration/bench/sock"
)

// Secure holds sessions over TLS. Unlike a Worker it is ordinary Go, a goroutine for each handshake and stream: of TLS
// only what the proxies use is measured, not how fast the clients are. Every handshake is a full one, with the same
// version, suite and key exchange on all proxies: TLS 1.3, TLS_AES_128_GCM_SHA256, X25519.
type Secure struct {
	sessions []*secureSession
	received atomic.Int64 // bytes of streams
	broken   atomic.Pointer[error]
	readers  sync.WaitGroup
}

type secureSession struct {
	*tls.Conn
	tcp *net.TCPConn
}

// Open opens sessions and keeps them. One that fails is an error.
func (s *Secure) Open(a OpenArgs) (Opened, error) {
	began := time.Now()
	next := make(chan int)
	errs := make(chan error, a.Inflight)
	ctx, cancel := context.WithTimeout(context.Background(), a.Within)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	for range a.Inflight {
		all.Go(func() {
			for i := range next {
				c, err := s.dial(ctx, &a.Target, i)
				if err != nil {
					errs <- err
					cancel()
					return
				}
				mu.Lock()
				s.sessions = append(s.sessions, c)
				mu.Unlock()
			}
		})
	}
	for i := 0; i < a.N && ctx.Err() == nil; i++ {
		select {
		case next <- i:
		case <-ctx.Done():
		}
	}
	close(next)
	all.Wait()
	select {
	case err := <-errs:
		return Opened{}, err
	default:
		return Opened{time.Since(began)}, ctx.Err()
	}
}

// dial makes session i of a target.
func (s *Secure) dial(ctx context.Context, t *Target, i int) (*secureSession, error) {
	var d net.Dialer
	if len(t.Sources) > 0 {
		host, _, err := net.SplitHostPort(t.Sources[i%len(t.Sources)])
		if err != nil {
			return nil, err
		}
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(host)}
	}
	d.Control = portLate
	raw, err := d.DialContext(ctx, "tcp", t.Addrs[i%len(t.Addrs)])
	if err != nil {
		return nil, err
	}
	c := &secureSession{tcp: raw.(*net.TCPConn)}
	c.Conn = tls.Client(raw, &tls.Config{
		ServerName: Host, InsecureSkipVerify: true, //nolint:gosec // the certificate is the comparison's own
		MinVersion: tls.VersionTLS13, CurvePreferences: []tls.CurveID{tls.X25519},
	})
	if err := c.greet(ctx, requestText(t.Path, t.FirstID+i%max(1, t.IDs))); err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return c, nil
}

// greet makes both handshakes.
func (c *secureSession) greet(ctx context.Context, request string) error {
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	if suite := c.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		return fmt.Errorf("the proxy chose %s, which makes it no comparison", tls.CipherSuiteName(suite))
	}
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	if _, err := c.Write([]byte(request)); err != nil {
		return err
	}
	br := bufio.NewReaderSize(c, 512)
	for first := true; ; first = false {
		line, err := br.ReadString('\n')
		switch {
		case err != nil:
			return fmt.Errorf("no answer: %w", err)
		case first && !strings.HasPrefix(line, "HTTP/1.1 101 "):
			return fmt.Errorf("answered %q", line)
		case line == "\r\n" && br.Buffered() > 0:
			return errors.New("bytes stand behind the 101 before anything was asked")
		case line == "\r\n":
			return c.SetDeadline(time.Time{})
		}
	}
}

// finish ends a session from the client's side and waits for the proxy's end.
func (c *secureSession) finish() error {
	defer func() { _ = c.tcp.Close() }()
	_ = c.tcp.SetDeadline(time.Now().Add(patience))
	if err := c.CloseWrite(); err != nil {
		return err
	}
	if err := c.tcp.CloseWrite(); err != nil {
		return err
	}
	n, err := io.Copy(io.Discard, c.tcp) // close_notify, if it comes, is of no interest
	if n > 64 {
		return fmt.Errorf("%d bytes came after our end", n)
	}
	return err
}

// Close resets every session.
func (s *Secure) Close(None) (None, error) {
	for _, c := range s.sessions {
		_ = c.tcp.SetLinger(0)
		_ = c.tcp.Close()
	}
	s.readers.Wait()
	s.sessions = nil
	s.broken.Store(nil)
	return None{}, nil
}

// Handshakes opens and ends sessions, Inflight at a time. One that fails is an error.
func (s *Secure) Handshakes(a HandshakeArgs) (Handshaken, error) {
	ctx, cancel := context.WithTimeout(context.Background(), a.Duration+patience)
	defer cancel()
	began := time.Now()
	var made atomic.Int64
	var mu sync.Mutex
	var took []int64
	var failed error
	var all sync.WaitGroup
	for range a.Inflight {
		all.Go(func() {
			for time.Since(began) < a.Duration {
				at := time.Now()
				c, err := s.dial(ctx, &a.Target, int(made.Add(1)))
				opened := time.Since(at)
				if err == nil {
					err = c.finish()
				}
				mu.Lock()
				took, failed = append(took, int64(opened)), errors.Join(failed, err)
				mu.Unlock()
				if err != nil {
					cancel()
					return
				}
			}
		})
	}
	all.Wait()
	return Handshaken{Done: len(took), Elapsed: time.Since(began), Open: latencyOf(took)}, failed
}

// Alive has some of the sessions echo a message.
func (s *Secure) Alive(None) (None, error) {
	text := []byte("is anybody there?")
	for i := 0; i < len(s.sessions); i += 1 + len(s.sessions)/100 {
		c := s.sessions[i]
		_ = c.SetDeadline(time.Now().Add(patience))
		if _, err := c.Write(sock.AppendFrame(nil, sock.OpBinary, true, text)); err != nil {
			return None{}, err
		}
		got := make([]byte, 2+len(text))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got[2:], text) {
			return None{}, fmt.Errorf("session %d: got %q, %w", i, got, err)
		}
	}
	return None{}, nil
}

// Ask asks the origin for a stream without end on every session, and has them read it until Close.
func (s *Secure) Ask(None) (None, error) {
	frame := sock.AppendFrame(nil, sock.OpBinary, true, []byte(strconv.Itoa(0)))
	for _, c := range s.sessions {
		if _, err := c.Write(frame); err != nil {
			return None{}, err
		}
		s.readers.Go(func() {
			buf := make([]byte, 64<<10)
			for {
				n, err := c.Read(buf)
				s.received.Add(int64(n))
				if err != nil {
					s.broken.Store(&err)
					return
				}
			}
		})
	}
	return None{}, nil
}

// Receive counts what all streams bring meanwhile.
func (s *Secure) Receive(a ReceiveArgs) (Received, error) {
	began, before := time.Now(), s.received.Load()
	time.Sleep(a.Duration)
	out := Received{s.received.Load() - before, time.Since(began)}
	if err := s.broken.Load(); err != nil {
		return out, *err
	}
	return out, nil
}

func portLate(_, _ string, rc syscall.RawConn) error {
	var err error
	if e := rc.Control(func(fd uintptr) { err = sock.PortLate(int(fd)) }); e != nil {
		return e
	}
	return err
}
