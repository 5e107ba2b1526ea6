package relay

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"testing"
)

// chat is a session whose client numbers its messages, and whose origin checks that none is missing and sends a message
// for each.
type chat struct {
	client, origin *peer
	sent           int  // by the client, before its Close
	got            int  // by the origin, before the client's Close
	evicted        bool // the client was told to go, with the right code
}

func (c *chat) say() error {
	_, err := c.client.Write(frameOf(0x82, binary.BigEndian.AppendUint32(nil, uint32(c.sent)), true))
	c.sent++
	return err
}

// talk sends, one message after the other's answer, until the client is told to go or stop is closed.
func (c *chat) talk(stop <-chan struct{}, said *atomic.Int64) error {
	for {
		select {
		case <-stop:
			return nil
		default:
		}
		if err := c.say(); err != nil {
			return err
		}
		said.Add(1)
		first, b, err := readFrame(c.client.br)
		switch {
		case err != nil:
			return err
		case first == 0x88 && binary.BigEndian.Uint16(b) == 1012 && string(b[2:]) == "moved to there":
			return c.leave()
		case first != 0x02:
			return fmt.Errorf("got frame %#x %q, want a first fragment", first, b)
		}
		if first, b, err = readFrame(c.client.br); err != nil || first != 0x80 {
			return fmt.Errorf("got frame %#x %q and %v, want the last fragment", first, b, err)
		}
	}
}

// leave sends some last messages and answers the Close.
func (c *chat) leave() error {
	c.evicted = true
	for range 3 {
		if err := c.say(); err != nil {
			return err
		}
	}
	if _, err := c.client.Write(closeFrame(1012, true)); err != nil {
		return err
	}
	if rest, err := io.ReadAll(c.client.br); err != nil || len(rest) > 0 {
		return fmt.Errorf("behind our Close came %q and %v", rest, err)
	}
	return c.client.Close()
}

// listen is the origin: it checks the numbers and answers each message with two fragments.
func (c *chat) listen() error {
	for {
		first, b, err := readFrame(c.origin.br)
		switch {
		case err != nil:
			return err
		case first == 0x88:
			if code := binary.BigEndian.Uint16(b); code != 1012 {
				return fmt.Errorf("the origin got Close %d, want the client's", code)
			}
			return c.origin.Close()
		case int(binary.BigEndian.Uint32(b)) != c.got:
			return fmt.Errorf("message %x came in the place of %d", b, c.got)
		}
		c.got++
		for _, fragment := range [][]byte{frameOf(0x02, b[:2], false), frameOf(0x80, b[2:], false)} {
			if _, err := c.origin.Write(fragment); err != nil {
				return err
			}
		}
	}
}

// TestCutoverUnderChatter: a cutover evicts exactly the moved sessions, every message that a client sent before its
// Close arrives, and the others notice nothing, on the same connections.
func TestCutoverUnderChatter(t *testing.T) {
	b := newBackend(t)
	f := start(t, Config{}, b.addr())
	f.own()
	const n = 200
	chats := make([]*chat, n)
	stop := make(chan struct{})
	results := make(chan error, 2*n)
	var said atomic.Int64
	var talking, listening sync.WaitGroup
	for i := range chats {
		c := &chat{}
		c.client, c.origin = f.open(b, id(i))
		chats[i] = c
	}
	for _, c := range chats {
		talking.Go(func() { results <- c.talk(stop, &said) })
		listening.Go(func() {
			if err := c.listen(); err != nil {
				results <- err
			}
		})
	}
	waitSaid := func() {
		base := said.Load()
		eventually(t, "everybody talks", func() bool { return said.Load() > base+4*n })
	}
	waitSaid()
	f.fence(50)
	waitSaid()
	f.Evict(testType, 500)
	f.waitDrained()
	f.commit(50)
	waitSaid()
	close(stop)
	talking.Wait()
	for i, c := range chats {
		if moved := i%100 >= 50; c.evicted != moved {
			t.Errorf("session %d: evicted %v, want %v", i, c.evicted, moved)
		}
		if !c.evicted {
			c.client.send(closeFrame(1012, true)...)
			_ = c.client.Close()
		}
	}
	if got := f.counts(); got.Evicted != n/2 {
		t.Errorf("%+v", got)
	}
	listening.Wait()
	for i, c := range chats {
		if c.got != c.sent {
			t.Errorf("session %d: %d of %d messages arrived", i, c.got, c.sent)
		}
	}
	for range len(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
