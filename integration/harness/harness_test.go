package harness

import (
	"bytes"
	"errors"
	"io"
	"os"
	"testing"
	"time"
)

const within = 30 * time.Second

func TestMain(m *testing.M) { os.Exit(Main(m)) }

// The tools of the other tests are held against each other, with no edge between them:
// what they cannot see here, they could not see there.

func TestClientAndOrigin(t *testing.T) {
	seen := NewRegister()
	origin := StartOrigin(t, "a", seen, 0)
	client := MustDial(t, Handshake{Addr: origin.Addr, RouterID: "7", Header: [][2]string{{"X-Mark", "m"}}})
	for _, size := range []int{0, 1, 125, 126, 65535, 65536} {
		text := string(bytes.Repeat([]byte("x"), size))
		if err := client.Send(text); err != nil {
			t.Fatal(err)
		}
		if size == 0 {
			expect(t, client, "Welcome to the server! a")
		}
		expect(t, client, text+":a")
	}
	sessions := seen.Sessions("7")
	if len(sessions) != 1 || sessions[0].Peer != client.LocalAddr() || sessions[0].Header.Get("X-Mark") != "m" || len(sessions[0].Messages()) != 6 {
		t.Errorf("the register has %+v", sessions)
	}
	if err := client.SendClose(1000, "enough"); err != nil {
		t.Fatal(err)
	}
	if err := client.Send("after"); err == nil {
		t.Error("sent a message after the Close")
	}
	_, err := client.Read(within)
	if closed, ok := errors.AsType[*CloseError](err); !ok || closed.Code != 1000 {
		t.Errorf("the answer to the Close was %v", err)
	}
	Eventually(t, within, "the session ends", func() bool { return sessions[0].Ended() != nil })
	if _, err := client.Read(within); !errors.Is(err, io.EOF) {
		t.Errorf("after the Closes: %v", err)
	}
}

// TestRegisterSeesOverlap: one user in two units at once is seen, one after the other is not,
// even when the first origin has not noticed yet that its session ended.
func TestRegisterSeesOverlap(t *testing.T) {
	seen := NewRegister()
	a, b := StartOrigin(t, "a", seen, 0), StartOrigin(t, "b", seen, 0)
	first := MustDial(t, Handshake{Addr: a.Addr, RouterID: "7"})
	MustDial(t, Handshake{Addr: b.Addr, RouterID: "8"})
	MustDial(t, Handshake{Addr: a.Addr, RouterID: "7"}).Drop()
	first.Drop()
	second := MustDial(t, Handshake{Addr: b.Addr, RouterID: "7"})
	if overlaps := seen.Overlaps(); len(overlaps) != 0 {
		t.Errorf("there is no overlap, but: %q", overlaps)
	}
	MustDial(t, Handshake{Addr: a.Addr, RouterID: "7"})
	if overlaps := seen.Overlaps(); len(overlaps) != 1 {
		t.Errorf("one overlap, seen: %q", overlaps)
	}
	second.Drop()
}

func expect(t *testing.T, c *Client, want string) {
	t.Helper()
	if text, err := c.Read(within); err != nil || string(text) != want {
		t.Fatalf("read %.40q (%d bytes), %v; want %.40q", text, len(text), err, want)
	}
}
