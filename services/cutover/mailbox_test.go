package cutover

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// mail is a mailbox with a clock of the test's, and what is registered.
type mail struct {
	*mailbox
	now time.Duration
}

func newMail(edges ...string) *mail {
	m := &mail{}
	m.mailbox = newMailbox(func(unit, e string) bool {
		return unit == "unbj" && strings.Contains(" "+strings.Join(edges, " ")+" ", " "+e+" ")
	}, func() time.Duration { return m.now })
	return m
}

func (m *mail) from(edge, kind, text string) {
	m.put(&nats.Msg{Subject: "unitgate.edge.shop.unbj." + edge + "." + kind, Data: []byte(text)})
}

// all takes what may be read at this moment.
func (m *mail) all() (got []string) {
	for {
		msg, _ := m.take()
		if msg == nil {
			return got
		}
		t := strings.Split(msg.Subject, ".")
		got = append(got, t[4]+"/"+t[5]+"/"+string(msg.Data))
	}
}

// S5: an edge that floods its subjects takes the place of its own messages only.
func TestFloodOfOneEdge(t *testing.T) {
	m := newMail("b1", "b2", "h1")
	read := map[string]int{}
	for second := range 10 {
		for i := range 20 { // every 50 ms
			for range 3000 {
				m.from("b1", "lease", fmt.Sprint("flood ", i))
			}
			if i == 10 {
				m.from("b2", "lease", fmt.Sprint("true ", second))
				m.from("b1", "report", "its own other kind")
				m.from("h1", "report", "true")
			}
			for _, got := range m.all() {
				read[got[:2]]++
			}
			m.now += 50 * time.Millisecond
		}
	}
	if read["b2"] != 10 || read["h1"] != 10 {
		t.Errorf("others were heard %d and %d times, want 10", read["b2"], read["h1"])
	}
	if most := 10*20 + edgeBurst + 10 + edgeBurst; read["b1"] > most {
		t.Errorf("%d messages of the flood were read, want at most %d", read["b1"], most)
	}
	if len(m.boxes) != 4 || len(m.queue) > 4 {
		t.Errorf("%d places, %d wait", len(m.boxes), len(m.queue))
	}
	if c := m.counts(); c[droppedReplaced] < 500_000 {
		t.Errorf("%v", c)
	}
}

// The newest message of an edge is the one that is read, and the others' come in turn.
func TestNewestOfEach(t *testing.T) {
	m := newMail("b1", "b2")
	m.from("b1", "report", "old")
	m.from("b2", "report", "only")
	m.from("b1", "report", "new")
	if got := strings.Join(m.all(), " "); got != "b1/report/new b2/report/only" {
		t.Error(got)
	}
}

// What no registered edge sends, and what no edge would send, costs nothing.
func TestMailThatIsNotRead(t *testing.T) {
	m := newMail("b1")
	m.from("ghost", "report", "x")
	m.put(&nats.Msg{Subject: "unitgate.edge.shop.center.b1.report"}) // another unit's, under its own subject
	m.put(&nats.Msg{Subject: "unitgate.edge"})
	m.from("b1", "report", strings.Repeat("x", maxEdgeMessage+1))
	m.from("b1", "report", strings.Repeat("x", maxEdgeMessage))
	if got := m.all(); len(got) != 1 {
		t.Errorf("%d were read", len(got))
	}
	if c := m.counts(); c[droppedUnknown] != 2 || c[droppedForm] != 1 || c[droppedLarge] != 1 || len(m.boxes) != 1 {
		t.Errorf("%v, %d places", c, len(m.boxes))
	}
	m.known = func(string, string) bool { return false }
	m.forget()
	if len(m.boxes) != 0 {
		t.Error("the place of an edge that is gone stays")
	}
}

// Beyond its burst an edge waits, and take says how long.
func TestWaitForAnEdgesTurn(t *testing.T) {
	m := newMail("b1")
	for range edgeBurst {
		m.from("b1", "report", "x")
		if len(m.all()) != 1 {
			t.Fatal("its burst is not read at once")
		}
	}
	m.from("b1", "report", "y")
	msg, wait := m.take()
	if msg != nil || wait <= 0 || wait > edgeEvery {
		t.Fatalf("%v, %s", msg, wait)
	}
	m.now += wait
	if msg, _ := m.take(); msg == nil || string(msg.Data) != "y" {
		t.Errorf("%v", msg)
	}
}
