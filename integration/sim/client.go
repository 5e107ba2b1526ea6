package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/unitgate/unitgate/edge/handshake"
)

// client is a user's device: it stays connected, follows redirects, comes back after a Close or a loss, and leaves now
// and then by itself.
type client struct {
	w       *world
	key     int // index into keys
	req     *handshake.Request
	unit    string        // whose address it uses
	session *session      // its connection as an edge has it; nil: none
	hops    int           // redirects in a row
	left    time.Duration // since when it has no connection; valid without one
	tries   int           // counts dials, so that what belongs to an old one is told from the new
}

// keys are the users of a world: one in each slot, and two whose IDs have rules of their own.
const (
	slots     = 16
	keyCount  = slots + 2
	unitType  = "user"
	namespace = "shop"
	epoch     = "epoch-1"
	host      = "ws.shop.example"
)

func keyID(key int) string {
	if key < slots {
		return fmt.Sprint(key)
	}
	return fmt.Sprintf("vip-%d", key-slots)
}

func requestOf(key int) *handshake.Request {
	head := fmt.Sprintf("GET /chat HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nrouterId: %s\r\n\r\n", host, keyID(key))
	req, _, err := handshake.Parse([]byte(head))
	if err != nil || req == nil {
		panic(fmt.Sprint("handshake: ", err))
	}
	return req
}

// dial connects to an edge of the client's unit that runs.
func (c *client) dial() {
	w := c.w
	c.tries++
	var up []*edge
	for _, e := range w.edges {
		if e.up && e.unit == c.unit {
			up = append(up, e)
		}
	}
	if len(up) == 0 { // its load balancer has nobody: try another region
		c.unit = w.units[w.rnd.IntN(len(w.units))]
		c.later(500 * time.Millisecond)
		return
	}
	e := up[w.rnd.IntN(len(up))]
	try := c.tries
	w.after(time.Millisecond+w.span(4*time.Millisecond), func() {
		life := e.life
		e.handle(life, func() {
			if c.tries == try && c.session == nil {
				e.relay.accept(c)
			}
		})
	})
	w.after(6*time.Second, func() { // nobody answers
		if c.tries == try && c.session == nil {
			c.dial()
		}
	})
}

func (c *client) later(d time.Duration) {
	c.tries++
	try := c.tries
	c.w.after(d/2+c.w.span(d), func() {
		if c.tries == try && c.session == nil {
			c.dial()
		}
	})
}

// redirected follows at once, and takes a breath after many in a row.
func (c *client) redirected(location string) {
	c.unit, _, _ = strings.Cut(strings.TrimPrefix(location, "http://"), ".")
	if c.hops++; c.hops%4 == 0 {
		c.later(500 * time.Millisecond)
		return
	}
	c.later(2 * time.Millisecond)
}

func (c *client) refused() { c.later(800 * time.Millisecond) }

// opened: it stays for a while.
func (c *client) opened() {
	c.hops = 0
	s := c.session
	c.w.after(c.w.span(40*time.Second), func() {
		if c.session == s && s.phase == open && s.p.r.e.up && !s.p.r.e.paused {
			s.end()
			c.left = c.w.now
			c.later(time.Second)
		}
	})
}

// lost: the connection ended.
func (c *client) lost() {
	c.session, c.left = nil, c.w.now
	c.later(20 * time.Millisecond)
}

func locationOf(vd *handshake.Verdict) string {
	for _, f := range vd.Header {
		if f.Name == "Location" {
			return f.Value
		}
	}
	return ""
}
