package roles_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// Slots 5998-6380 go to and fro, all others stay where they are.
const (
	firstMoving, lastMoving = 5998, 6380

	clients = 500
	moving  = 60 // of them
)

// crowd are the clients. Those that do not move have one connection for ever.
type crowd struct {
	t       *testing.T
	domain  string
	addrs   map[string][]string // of edges, by unit
	running sync.WaitGroup

	standing, moved, talked, put503, lost atomic.Int64
}

// user is the n-th client's slot and routerId, and whether it moves.
func user(n int) (slot int, id string, moves bool) {
	switch moves = n < moving; {
	case moves:
		slot = firstMoving + n*(lastMoving-firstMoving)/moving
	case n%2 == 0:
		slot = n * 11 // up to 5,500
	default:
		slot = 6381 + n*7
	}
	return slot, strconv.Itoa(7_313_370_000 + slot), moves
}

// start has everybody come, and go on until ctx ends.
func (c *crowd) start(ctx context.Context) {
	for n := range clients {
		c.running.Go(func() {
			if err := c.stand(ctx, n); err != nil {
				if c.t.Fail(); c.lost.Add(1) <= 10 { // of 500 the others say the same
					c.t.Error(err)
				}
			}
		})
		if n%20 == 19 {
			time.Sleep(10 * time.Millisecond) // the ramp is not what is tested
		}
	}
}

// stand keeps a client connected and talking. Only one who moves may lose its connection,
// by a Close that says so.
func (c *crowd) stand(ctx context.Context, n int) error {
	slot, id, moves := user(n)
	home := "center"
	if slot >= firstMoving {
		home = "unbj"
	}
	addr := c.addrs[home][n/2%2]
	for {
		client, err := c.dial(ctx, addr, id, moves)
		if err != nil || client == nil {
			return err
		}
		c.standing.Add(1)
		err = c.talk(ctx, client, n)
		c.standing.Add(-1)
		client.Drop()
		var closed *harness.CloseError
		switch {
		case err == nil:
			return nil
		case !moves || !errors.As(err, &closed) || closed.Code != 1012:
			return fmt.Errorf("the session of %s (slot %d, it moves: %v) at %s is lost: %w", id, slot, moves, client.LocalAddr(), err)
		}
		c.moved.Add(1)
	}
}

// dial opens a session, wherever the user belongs by now; nil once ctx has ended.
func (c *crowd) dial(ctx context.Context, addr, id string, moves bool) (*harness.Client, error) {
	for ctx.Err() == nil {
		client, response, err := harness.Dial(harness.Handshake{Addr: addr, Host: c.domain, RouterID: id})
		switch {
		case err != nil:
			return nil, fmt.Errorf("%s at %s: %w", id, addr, err)
		case client != nil:
			return client, nil
		case response.StatusCode == http.StatusFound && moves:
			to, err := url.Parse(response.Header.Get("Location"))
			if err != nil {
				return nil, err
			}
			addr = to.Host
		case response.StatusCode == http.StatusServiceUnavailable && moves: // held for too long
			c.put503.Add(1)
		default:
			return nil, fmt.Errorf("%s at %s: answered %s", id, addr, response.Status)
		}
	}
	return nil, nil
}

// talk ends with ctx, or with an error.
func (c *crowd) talk(ctx context.Context, client *harness.Client, n int) error {
	in := make(chan error, 1)
	var awaited atomic.Value // the text whose echo is to come
	awaited.Store("Welcome to the server!")
	heard := make(chan struct{}, 1)
	go func() {
		for {
			text, err := client.Read(0)
			if want, _ := awaited.Load().(string); err == nil && !strings.HasPrefix(string(text), want) {
				err = fmt.Errorf("heard %.60q instead of %q", text, want)
			}
			if err != nil {
				in <- err
				return
			}
			heard <- struct{}{}
		}
	}()
	timer := time.NewTimer(rand.N(4 * time.Second))
	defer timer.Stop()
	for i := 0; ; i++ {
		select { // what was said is answered before the next is
		case err := <-in:
			return err
		case <-heard:
		case <-time.After(recovers):
			return fmt.Errorf("no echo of %q", awaited.Load())
		}
		c.talked.Add(1)
		select {
		case err := <-in:
			return err
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		text := fmt.Sprintf("client %d, message %d", n, i)
		awaited.Store(text)
		if err := client.Send(text); err != nil {
			if said := <-in; said != nil { // a Close that came before says more
				return said
			}
			return err
		}
		timer.Reset(2*time.Second + rand.N(4*time.Second))
	}
}
