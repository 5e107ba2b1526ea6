package integration_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// survivors is the clients of TestKill9, which live through all kills. They enter where the newest life listens.
type survivors struct {
	clients []*survivor

	mu    sync.Mutex
	entry string // of this life; "": there is none
	lives int
}

func (c *survivors) open(entry string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entry = entry
	c.lives++
}

func (c *survivors) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.entry = ""
}

func (c *survivors) now() (entry string, life int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.entry, c.lives
}

func (c *survivors) life() int {
	_, life := c.now()
	return life
}

// join starts a client, which ends with the test.
func (c *survivors) join(t *testing.T, id string) {
	t.Helper()
	s := &survivor{id: id}
	c.clients = append(c.clients, s)
	var running sync.WaitGroup
	running.Go(func() { s.run(t.Context(), c) })
	t.Cleanup(running.Wait) // the context has ended by then
}

// survivor is a client that follows redirects and comes back whenever its connection ends.
type survivor struct {
	id string

	mu     sync.Mutex
	life   int
	unit   string // that serves it; "": none
	served int
}

// at is the unit that serves the client in this life.
func (s *survivor) at(life int) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.life != life {
		return ""
	}
	return s.unit
}

func (s *survivor) connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

func (s *survivor) is(life int, unit string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life, s.unit = life, unit
	if unit != "" {
		s.served++
	}
}

// comeBackAfter keeps clients that nobody serves from spinning.
const comeBackAfter = 20 * time.Millisecond

func (s *survivor) run(ctx context.Context, c *survivors) {
	for ctx.Err() == nil {
		if entry, life := c.now(); entry != "" {
			s.visit(ctx, entry, life)
		}
		select {
		case <-ctx.Done():
		case <-time.After(comeBackAfter):
		}
	}
}

// visit connects, by way of at most one redirect, and stays until the connection ends.
func (s *survivor) visit(ctx context.Context, entry string, life int) {
	client, response, err := harness.Dial(harness.Handshake{Addr: entry, RouterID: s.id})
	if err == nil && client == nil && response.StatusCode == http.StatusFound {
		at, err := url.Parse(response.Header.Get("Location"))
		if err != nil {
			return
		}
		client, _, _ = harness.Dial(harness.Handshake{Addr: at.Host, RouterID: s.id})
	}
	if client == nil {
		return
	}
	defer client.Drop()
	defer context.AfterFunc(ctx, client.Drop)()
	defer s.is(life, "")
	for {
		text, err := client.Read(0)
		if err != nil {
			return
		}
		if unit, ok := strings.CutPrefix(string(text), "Welcome to the server! "); ok {
			s.is(life, unit)
		}
	}
}
