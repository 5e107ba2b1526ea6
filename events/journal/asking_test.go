package journal_test

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

func TestAskingContract(t *testing.T) {
	journaltest.Run(t, func(t *testing.T) journal.Journal {
		srv := journaltest.StartServer(t)
		js := srv.JetStream()
		journaltest.Answer(t.Context(), t, js.Conn(), newStream(t, js))
		return journaltest.OpenAsking(t, srv.JetStream())
	})
}

// way opens the journal that a writer has made, for a reader with a connection of its own.
type way func(t *testing.T, srv *journaltest.Server, writer *journal.Stream, opts ...nats.Option) *journal.Stream

// ways are by the stream itself, and by asking the control plane.
var ways = map[string]way{
	"stream": func(t *testing.T, srv *journaltest.Server, _ *journal.Stream, opts ...nats.Option) *journal.Stream {
		j, err := journal.Open(t.Context(), srv.JetStream(opts...), "shop")
		if err != nil {
			t.Fatal(err)
		}
		return j
	},
	"asking": func(t *testing.T, srv *journaltest.Server, writer *journal.Stream, opts ...nats.Option) *journal.Stream {
		journaltest.Answer(t.Context(), t, writer.Conn(), writer)
		return journaltest.OpenAsking(t, srv.JetStream(opts...))
	},
}

func eachWay(t *testing.T, name string, test func(t *testing.T, way way)) {
	for kind, way := range ways {
		if name != "" {
			kind = name + "/" + kind
		}
		t.Run(kind, func(t *testing.T) { test(t, way) })
	}
}

func eachWayInBubble(t *testing.T, test func(t *testing.T, srv *journaltest.Server, way way)) {
	eachWay(t, "", func(t *testing.T, way way) {
		journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) { test(t, srv, way) })
	})
}

// News wake a reader at once; wrong ones, however many, cost a few questions and change nothing.
func TestNews(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		js := srv.JetStream()
		writer := newStream(t, js)
		c := journaltest.Fill(t, writer, journal.Cursor{}, 1, 2)
		asked := counted(t, srv.Connect(), journaltest.Asking)
		f := journaltest.Follow(t, ways["asking"](t, srv, writer), journal.Cursor{})
		f.Until(1, 2)
		synctest.Wait()
		began := time.Now()
		c = journaltest.Fill(t, writer, c, 3, 3)
		f.Until(3, 3)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("it took %v", took)
		}
		for _, lie := range []string{"18446744073709551615", "4", "0", "-1", "", "news"} {
			before := asked.Load()
			for range 1000 {
				if err := js.Conn().Publish(journal.NewsSubject("shop"), []byte(lie)); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Millisecond)
			}
			if n := asked.Load() - before; n > 60 { // one in 20 ms, over a second
				t.Errorf("%d questions for the news %q", n, lie)
			}
		}
		began = time.Now()
		journaltest.Fill(t, writer, c, 4, 4)
		f.Until(4, 4)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("after wrong news it took %v", took)
		}
	})
}

// counted counts the messages on a subject.
func counted(t *testing.T, nc *nats.Conn, subject string) *atomic.Int64 {
	t.Helper()
	n := new(atomic.Int64)
	if _, err := nc.Subscribe(subject, func(*nats.Msg) { n.Add(1) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return n
}

// Many readers that lack the same record cost the stream hardly more than one.
func TestReadersShareLooks(t *testing.T) {
	srv := journaltest.StartServer(t)
	js := srv.JetStream()
	writer := newStream(t, js)
	c := journaltest.Fill(t, writer, journal.Cursor{}, 1, 3)
	open := ways["asking"](t, srv, writer)
	const readers = 100
	var followers []*journaltest.Follower
	for range readers {
		f := journaltest.Follow(t, open, c)
		followers = append(followers, f)
	}
	journaltest.Fill(t, writer, c, 4, 4)
	for _, f := range followers {
		f.Until(4, 4)
	}
	gets := counted(t, srv.Connect(), "$JS.API.DIRECT.GET.UNITGATE_shop")
	c = journaltest.Fill(t, writer, journal.Cursor{Epoch: c.Epoch, Seq: 4, Hash: journaltest.All(t, writer)[3].Hash()}, 5, 5)
	for _, f := range followers {
		f.Until(5, 5)
	}
	if n := gets.Load(); n < 1 || n > 3 {
		t.Errorf("%d looks into the stream for %d readers", n, readers)
	}
}

// A question to a controller that hangs goes out once more, and finds another one.
func TestHangingController(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		writer := newStream(t, srv.JetStream())
		journaltest.Fill(t, writer, journal.Cursor{}, 1, 1)
		j := ways["asking"](t, srv, writer)
		nc := srv.Connect()
		taken := 0
		if _, err := nc.Subscribe("lost", func(m *nats.Msg) { // the hanging one has the first three, as the server chose
			if taken++; taken > 3 {
				_ = nc.PublishMsg(&nats.Msg{Subject: journaltest.Asking, Reply: m.Reply, Data: m.Data})
			}
		}); err != nil {
			t.Fatal(err)
		}
		if err := nc.Flush(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		hanging, err := journal.OpenAsking(t.Context(), srv.JetStream(), "shop", "lost")
		if err != nil || hanging.Epoch() != j.Epoch() || taken != 4 {
			t.Errorf("%v after %d questions", err, taken)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// A reader that asks reads the stream itself while no control plane is there, and asks again from the next trouble on.
func TestAskingWithoutControlPlane(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		js := srv.JetStream()
		writer := newStream(t, js)
		c := journaltest.Fill(t, writer, journal.Cursor{}, 1, 3)
		j := journaltest.OpenAsking(t, srv.JetStream())
		if j.Epoch() != writer.Epoch() {
			t.Errorf("epoch %s, want %s", j.Epoch(), writer.Epoch())
		}
		f := journaltest.Follow(t, j, journal.Cursor{})
		f.Until(1, 3)
		synctest.Wait()
		if n := consumers(t, js); n != 1 {
			t.Errorf("%d consumers while it reads the stream", n)
		}
		journaltest.Answer(t.Context(), t, srv.Connect(srv.Uncut()), writer)
		srv.Cut()
		time.Sleep(time.Minute)
		srv.Heal()
		if err := awaitConnected(js.Conn()); err != nil {
			t.Fatal(err)
		}
		journaltest.Fill(t, writer, c, 4, 5)
		f.Until(4, 5)
		synctest.Wait()
		if n := consumers(t, js); n != 0 {
			t.Errorf("%d consumers while it asks", n)
		}
	})
}

func awaitConnected(nc *nats.Conn) error {
	for range 1000 {
		if nc.IsConnected() {
			return nil
		}
		time.Sleep(10 * time.Millisecond) // virtual
	}
	return nats.ErrDisconnected
}
