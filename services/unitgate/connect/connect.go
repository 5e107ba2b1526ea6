// Package connect is the walkthrough's client: a WebSocket connection with a routerId that follows redirects, comes back
// when it is closed, and prints what happens.
package connect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
)

// Bounds of a Client.
const (
	maxRedirects = 10               // in a row
	dialTimeout  = 30 * time.Second // longer than any hold of a handshake
	goodbye      = time.Second      // for the closing handshake at the end
	maxMessage   = 64 << 20         // bytes
	abnormal     = 1006             // what a client calls an end without a Close frame, RFC 6455 section 7.4.1
	elsewhere    = 4302             // with this an edge says that the client belongs to the URL in the text
)

// ErrRedirectLoop: the servers send the client around. ErrRefused: the server will never let this client in.
var (
	ErrRedirectLoop = errors.New("redirect loop")
	ErrRefused      = errors.New("refused")
)

// Client is one client. Set the fields, then call Run once.
type Client struct {
	URL        string        // ws, wss, http or https
	RouterID   string        // sent as the header routerId, unless ""
	UnitType   string        // sent as the header unitType, unless ""
	RetryAfter time.Duration // pause before a reconnect; 0: 1.5 s, as in the walkthrough
	Out        io.Writer     // what happens, a line each
	ErrOut     io.Writer     // what goes wrong on the way, a line each

	http *http.Client
	tcp  atomic.Pointer[net.Conn] // of the newest handshake, set on a goroutine of the transport
}

// Check tells what is wrong with a URL before anything is dialled.
func Check(raw string) error {
	scheme, _, _ := strings.Cut(raw, "://")
	switch strings.ToLower(scheme) {
	case "ws", "wss", "http", "https":
	default:
		return fmt.Errorf("url %q: want ws://, wss://, http:// or https://", raw)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return fmt.Errorf("url %q: %w", raw, errors.Unwrap(err))
	}
	if u.Host == "" {
		return fmt.Errorf("url %q: there is no host in it", raw)
	}
	return nil
}

// Run connects, and connects again, until ctx ends (nil), or until there is no sense in going on: ErrRedirectLoop or
// ErrRefused.
func (c *Client) Run(ctx context.Context) error {
	if err := Check(c.URL); err != nil {
		return err
	}
	if c.RetryAfter == 0 {
		c.RetryAfter = 1500 * time.Millisecond
	}
	t := &http.Transport{DialContext: c.dial, TLSHandshakeTimeout: dialTimeout, DisableKeepAlives: true} // no HTTP/2, no proxy
	defer t.CloseIdleConnections()
	c.http = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	for {
		if err := c.once(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		c.say("!!! reconnecting in ...%d ms", c.RetryAfter.Milliseconds())
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(c.RetryAfter):
		}
	}
}

func (c *Client) say(format string, args ...any) { fmt.Fprintf(c.Out, format+"\n", args...) }

// dial resolves *.localhost to the loopback interface (RFC 6761 section 6.3), which many resolvers do not.
func (c *Client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if host, port, err := net.SplitHostPort(addr); err == nil && strings.HasSuffix(strings.ToLower(host), ".localhost") {
		addr = net.JoinHostPort("127.0.0.1", port)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err == nil {
		c.tcp.Store(&conn)
	}
	return conn, err
}

// once follows redirects to a connection and lives with it until it ends.
func (c *Client) once(ctx context.Context) error {
	for range maxRedirects + 1 {
		conn, resp, err := c.handshake(ctx)
		switch {
		case ctx.Err() != nil:
			if conn != nil {
				conn.CloseNow()
			}
			return nil
		case err == nil:
			to := c.live(ctx, conn)
			if to == "" {
				return nil
			}
			if err := c.goElsewhere(to); err != nil {
				return err
			}
			continue
		case resp == nil:
			c.complain("cannot connect to %s: %v", c.URL, cause(err))
			c.say("disconnected")
			return nil
		case !redirects(resp):
			return c.answered(resp)
		}
		if err := c.follow(resp); err != nil {
			return err
		}
	}
	return fmt.Errorf("%w: %d redirects in a row, the last one to %s: the sub-domains of the domain may point to the wrong units", ErrRedirectLoop, maxRedirects, c.URL)
}

// cause drops what the layers around a dial error say again.
func cause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}

func redirects(r *http.Response) bool {
	return r.StatusCode/100 == 3 && r.Header.Get("Location") != ""
}

// follow makes the redirect's target the address from now on, for reconnects too, as the walkthrough's client does.
func (c *Client) follow(resp *http.Response) error {
	location := resp.Header.Get("Location")
	base, err := url.Parse(c.URL)
	if err != nil {
		return err
	}
	next, err := base.Parse(location)
	if err == nil {
		err = Check(next.String())
	}
	if err != nil {
		return fmt.Errorf("%w: the redirect from %s to %q leads nowhere: %w", ErrRefused, c.URL, location, err)
	}
	c.say("!!! redirecting... from  %s  to %s", c.URL, location)
	c.URL = next.String()
	return nil
}

// goElsewhere makes the unit that a Close frame names the address from now on. Path and query stay the client's own: the
// frame may have had no room for them.
func (c *Client) goElsewhere(to string) error {
	own, err := url.Parse(c.URL)
	if err != nil {
		return err
	}
	next, err := url.Parse(to)
	if err == nil {
		err = Check(to)
	}
	if err != nil {
		return fmt.Errorf("%w: the Close %d from %s to %q leads nowhere: %w", ErrRefused, elsewhere, c.URL, to, err)
	}
	c.say("!!! redirecting... from  %s  to %s", c.URL, to)
	own.Scheme, own.Host = next.Scheme, next.Host
	c.URL = own.String()
	return nil
}

// answered handles an answer that is neither 101 nor a redirect. A request that is wrong in itself is not repeated.
func (c *Client) answered(resp *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // for the message only
	text := resp.Status
	if line := strings.TrimSpace(string(body)); line != "" {
		text += ": " + strings.ToValidUTF8(line, "?")
	}
	if s := resp.StatusCode; s == http.StatusBadRequest || s == http.StatusUpgradeRequired {
		return fmt.Errorf("%w: %s answers %s", ErrRefused, c.URL, text)
	}
	c.complain("%s answers %s", c.URL, text)
	c.say("disconnected")
	return nil
}

func (c *Client) complain(format string, args ...any) {
	fmt.Fprintf(c.ErrOut, "err: "+format+"\n", args...)
}

func (c *Client) handshake(ctx context.Context) (*websocket.Conn, *http.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	h := http.Header{}
	if c.RouterID != "" {
		h["routerId"] = []string{c.RouterID} // spelt as in the walkthrough
	}
	if c.UnitType != "" {
		h["unitType"] = []string{c.UnitType}
	}
	conn, resp, err := websocket.Dial(ctx, c.URL, &websocket.DialOptions{HTTPClient: c.http, HTTPHeader: h})
	return conn, resp, err
}

// live says hello and prints what comes until the connection ends or ctx does. It returns the URL to which the server
// sends the client, "" if it does not.
func (c *Client) live(ctx context.Context, conn *websocket.Conn) (to string) {
	defer conn.CloseNow()
	conn.SetReadLimit(maxMessage)
	c.say("connected:%s", c.RouterID)
	done := make(chan struct{})
	go func() {
		defer close(done)
		to = c.read(ctx, conn)
	}()
	hello := strconv.FormatInt(time.Now().UnixMilli(), 10)
	_ = conn.Write(context.WithoutCancel(ctx), websocket.MessageText, []byte(hello)) // the reader tells why, if it fails
	select {
	case <-done:
	case <-ctx.Done():
		timer := time.AfterFunc(goodbye, func() { (*c.tcp.Load()).Close() }) // a server that does not answer the Close is left alone
		_ = conn.Close(websocket.StatusNormalClosure, "")                    // the end is the same whatever the server says
		timer.Stop()
		<-done
	}
	return to
}

// read prints what comes until the connection ends, and returns what live does. Nothing is said once ctx has ended.
func (c *Client) read(ctx context.Context, conn *websocket.Conn) (to string) {
	for {
		_, text, err := conn.Read(context.WithoutCancel(ctx)) // live ends it, with a closing handshake
		switch {
		case ctx.Err() != nil:
			return ""
		case err == nil:
			c.say("msg: %s", text)
			continue
		}
		var closed websocket.CloseError
		if errors.As(err, &closed) {
			c.say("%s", strings.TrimSpace(fmt.Sprintf("disconnected: %d %s", closed.Code, closed.Reason)))
		} else {
			c.say("disconnected: %d %v", abnormal, innermost(err))
		}
		if closed.Code == elsewhere {
			return closed.Reason
		}
		return ""
	}
}
