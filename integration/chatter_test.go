package integration_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/unitgate/unitgate/integration/harness"
)

// chatHeader names a connection to the origin, which so can be held against what its client sent.
const chatHeader = "X-Chat"

// chatter is one user's device that talks all the time, and comes back at once when it is closed.
type chatter struct {
	id    string
	every time.Duration
	addr  string // where it connects to; it keeps the address it was redirected to

	mu        sync.Mutex
	chats     []*chat
	redirects int
	problem   error // what should never happen to a client; it ends the chatter
}

// chat is one connection of a chatter. Its fields are the chatter's, under mu.
type chat struct {
	name   string // the value of chatHeader
	edge   string // whom we dialled
	unit   string // who welcomed us
	sent   int    // messages, numbered from 0
	echoed int    // echoes seen, without a gap
	end    error  // nil while it lasts; a *harness.CloseError after a Close

	welcomed, ended time.Time
}

// last returns a copy of the current chat and how many there were.
func (c *chatter) last() (chat, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.chats) == 0 {
		return chat{}, 0
	}
	return *c.chats[len(c.chats)-1], len(c.chats)
}

// run talks until ctx ends, then closes with 1000 and waits for the answer.
func (c *chatter) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.mu.Lock()
		current := &chat{name: fmt.Sprintf("%s/%d", c.id, len(c.chats))}
		addr := c.addr
		current.edge = addr
		c.mu.Unlock()
		client, response, err := harness.Dial(harness.Handshake{Addr: addr, RouterID: c.id, Header: [][2]string{{chatHeader, current.name}}})
		switch {
		case err != nil:
			c.fail(fmt.Errorf("dialling %s: %w", addr, err))
			return
		case client != nil:
			c.mu.Lock()
			c.chats = append(c.chats, current)
			c.mu.Unlock()
			c.talk(ctx, client, current)
		case response.StatusCode == http.StatusFound:
			location, err := url.Parse(response.Header.Get("Location"))
			if err != nil {
				c.fail(err)
				return
			}
			c.mu.Lock()
			c.addr = location.Host
			c.redirects++
			c.mu.Unlock()
		case response.StatusCode == http.StatusServiceUnavailable && response.Header.Get("Retry-After") != "":
			// Held for longer than the policy's hold: come again.
		default:
			c.fail(fmt.Errorf("%s answered %s", addr, response.Status))
			return
		}
	}
}

func (c *chatter) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.problem == nil {
		c.problem = fmt.Errorf("%s: %w", c.id, err)
	}
}

// lastWords is how many messages a chatter still sends between the edge's Close and its own.
const lastWords = 3

// talk sends numbers and reads their echoes until the connection ends.
func (c *chatter) talk(ctx context.Context, client *harness.Client, current *chat) {
	defer client.Drop()
	say := func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		err := client.Send(fmt.Sprint(current.sent))
		if err == nil {
			current.sent++
		}
		return err
	}
	client.BeforeClose = func() {
		for range lastWords {
			_ = say() // refused after our own Close
		}
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		err := c.listen(client, current)
		c.mu.Lock()
		defer c.mu.Unlock()
		current.end, current.ended = err, time.Now()
	}()
	// Not all at one beat.
	timer := time.NewTimer(rand.N(c.every))
	defer timer.Stop()
	for {
		select {
		case <-ended:
			return
		case <-ctx.Done():
			_ = client.SendClose(1000, "") // refused only when the edge closed first
			<-ended
			return
		case <-timer.C:
			timer.Reset(c.every)
		}
		if say() != nil {
			<-ended
			return
		}
	}
}

// listen reads until the connection ends and says how. A gap in the echoes is an end of its own.
func (c *chatter) listen(client *harness.Client, current *chat) error {
	welcome, err := client.Read(within)
	if err != nil {
		return err
	}
	unit := strings.TrimPrefix(string(welcome), "Welcome to the server! ")
	c.mu.Lock()
	current.unit, current.welcomed = unit, time.Now()
	c.mu.Unlock()
	for n := 0; ; n++ {
		text, err := client.Read(0)
		if err != nil {
			return err
		}
		if want := fmt.Sprintf("%d:%s", n, unit); string(text) != want {
			return fmt.Errorf("echo %q instead of %q", text, want)
		}
		c.mu.Lock()
		current.echoed++
		c.mu.Unlock()
	}
}

// closedWith says whether an end is a Close with this code and reason.
func closedWith(end error, code uint16, reason string) bool {
	closed, ok := errors.AsType[*harness.CloseError](end)
	return ok && closed.Code == code && closed.Reason == reason
}
