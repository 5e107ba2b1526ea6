package soak_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// The slots, of which each user has one. Those in the middle go to and fro between the two units, all others stay.
const (
	slots     = 10_000
	firstMove = 4000
	firstB    = 5000 // those from here on are b's for ever
)

// patience is for one step of one client; two cores may be busy with other tests.
const patience = 30 * time.Second

// crowd is all that clients do.
type crowd struct {
	t       *testing.T
	domain  string
	edges   [2]string // HOST:PORT of a and b
	clients sync.WaitGroup

	standing, moved, ended, slowlyRead atomic.Int64
}

// moves says whether a user's slot goes to and fro.
func moves(user int) bool { return user >= firstMove && user < firstB }

// home is an edge of the unit that a user belongs to, or belonged to at first.
func (c *crowd) home(user int) string {
	if user < firstB {
		return c.edges[0]
	}
	return c.edges[1]
}

// dial opens a session, wherever the user belongs by now.
func (c *crowd) dial(user int, target string) (*harness.Client, error) {
	addr := c.home(user)
	for range 20 {
		client, response, err := harness.Dial(harness.Handshake{Addr: addr, Host: c.domain, Target: target, RouterID: strconv.Itoa(user)})
		switch {
		case err != nil:
			return nil, fmt.Errorf("user %d at %s: %w", user, addr, err)
		case client != nil:
			return client, nil
		case response.StatusCode == http.StatusFound && moves(user):
			to, err := url.Parse(response.Header.Get("Location"))
			if err != nil {
				return nil, err
			}
			addr = to.Host
		default:
			return nil, fmt.Errorf("user %d at %s: answered %s", user, addr, response.Status)
		}
	}
	return nil, fmt.Errorf("user %d: sent to and fro without end", user)
}

// heard is what a client that listens all the time gets.
type heard struct {
	text []byte
	err  error // the last one
}

// listen reads until the end. Between two messages of ours at most an echo and an end can come.
func listen(client *harness.Client) <-chan heard {
	in := make(chan heard, 2)
	go func() {
		for {
			text, err := client.Read(0)
			in <- heard{text, err}
			if err != nil {
				return
			}
		}
	}()
	return in
}

// stand keeps a user connected and talking until ctx ends. Only those who move may ever be disconnected.
func (c *crowd) stand(ctx context.Context, user int) error {
	c.standing.Add(1)
	defer c.standing.Add(-1)
	for {
		client, err := c.dial(user, "/")
		if err != nil {
			return err
		}
		err = c.talk(ctx, user, client)
		client.Drop()
		var closed *harness.CloseError
		switch {
		case err == nil:
			return nil
		case !moves(user) || !errors.As(err, &closed) || closed.Code != 1012:
			return fmt.Errorf("user %d, who moves: %v: %w", user, moves(user), err)
		case ctx.Err() != nil:
			return nil
		}
		c.moved.Add(1)
	}
}

// talk ends with ctx, or with an error.
func (c *crowd) talk(ctx context.Context, user int, client *harness.Client) error {
	in := listen(client)
	timer := time.NewTimer(rand.N(4 * time.Second))
	defer timer.Stop()
	for n := 0; ; n++ {
		select {
		case h := <-in:
			return fmt.Errorf("unasked came %.60q: %w", h.text, h.err)
		case <-ctx.Done():
			if err := client.SendClose(1000, ""); err != nil && !moves(user) {
				return err
			}
			var closed *harness.CloseError
			if h := <-in; !errors.As(h.err, &closed) || closed.Code != 1000 && !moves(user) {
				return fmt.Errorf("after our Close: %w", h.err)
			}
			return nil
		case <-timer.C:
		}
		text := fmt.Sprintf("user %d, message %d", user, n)
		if err := client.Send(text); err == nil {
			if h := <-in; h.err != nil || string(h.text) != text {
				return fmt.Errorf("the echo of %q is %.60q: %w", text, h.text, h.err)
			}
		} else if h := <-in; h.err != nil { // a Close that came before says more
			return h.err
		} else {
			return err
		}
		timer.Reset(2*time.Second + rand.N(4*time.Second))
	}
}

// say sends a message and expects its echo.
func say(client *harness.Client, text string) error {
	if err := client.Send(text); err != nil {
		return err
	}
	got, err := client.Read(patience)
	if err == nil && string(got) != text {
		err = fmt.Errorf("the echo of %q is %.60q", text, got)
	}
	return err
}

// goodbye ends a session as RFC 6455 wants it.
func goodbye(client *harness.Client) error {
	if err := client.SendClose(1000, ""); err != nil {
		return err
	}
	_, err := client.Read(patience)
	var closed *harness.CloseError
	if errors.As(err, &closed) && closed.Code == 1000 {
		return nil
	}
	return fmt.Errorf("after our Close: %w", err)
}

// visit opens a session and ends it in one of the possible ways.
func (c *crowd) visit(user, how int) error {
	defer c.ended.Add(1)
	if how%8 == 7 { // never comes to ask
		conn, err := net.DialTimeout("tcp", c.home(user), patience)
		if err != nil {
			return err
		}
		_, err = conn.Write([]byte("GET / HTTP/1.1\r\nHost: "))
		return errors.Join(err, conn.Close())
	}
	client, err := c.dial(user, "/")
	if err != nil {
		return err
	}
	defer client.Drop()
	if how%8 == 6 { // leaves without a word
		return nil
	}
	if err := say(client, "hello"); err != nil {
		return err
	}
	switch how % 8 {
	case 0, 1:
		client.Reset()
	case 2, 3:
		if err := client.Send(resetPlease); err != nil {
			return err
		}
		if b, err := client.Read(patience); err == nil {
			return fmt.Errorf("after the origin's reset came %q", b)
		}
	default:
		return goodbye(client)
	}
	return nil
}

// come has rate users a second visit, until ctx ends.
func (c *crowd) come(ctx context.Context, rate int) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		user := rand.IntN(slots)
		if moves(user) { // an eviction in the middle of a visit proves nothing
			user += firstB - firstMove
		}
		c.clients.Go(func() {
			if err := c.visit(user, n); err != nil {
				c.t.Errorf("visit %d: %v", n, err)
			}
		})
	}
}

// readSlowly asks for floods, leaves them for a while and reads them then, until ctx ends.
func (c *crowd) readSlowly(ctx context.Context, user int) error {
	const messages = 48 // 3 MiB: more than all buffers on the way take
	for ctx.Err() == nil {
		client, err := c.dial(user, floodPath+strconv.Itoa(messages))
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second + rand.N(2*time.Second)):
		}
		for i := range messages {
			got, err := client.Read(patience)
			if err == nil && !bytes.Equal(got, floodOf(i)) {
				err = fmt.Errorf("%d other bytes", len(got))
			}
			if err != nil {
				client.Drop()
				return fmt.Errorf("slow reader %d, message %d: %w", user, i, err)
			}
		}
		err = goodbye(client)
		client.Drop()
		if err != nil {
			return err
		}
		c.slowlyRead.Add(1)
	}
	return nil
}
