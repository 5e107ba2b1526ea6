package journal_test

import (
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// impostor stands between a JetStream handle and the server, and answers questions about the stream as a server of a
// cluster would that does not know, or no longer knows, how far the stream is.
type impostor struct {
	t  *testing.T
	nc *nats.Conn

	mu   sync.Mutex
	lie  func(info *jetstream.StreamInfo) // nil: the truth
	asks int
}

// stand returns the impostor and a journal that is read through it.
func stand(t *testing.T, srv *journaltest.Server) (*impostor, *journal.Stream) {
	t.Helper()
	p := &impostor{t: t, nc: srv.Connect()}
	if _, err := p.nc.Subscribe("behind.>", p.pass); err != nil {
		t.Fatal(err)
	}
	if err := p.nc.Flush(); err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.NewWithAPIPrefix(srv.Connect(), "behind")
	if err != nil {
		t.Fatal(err)
	}
	j, err := journal.Open(t.Context(), js, "shop")
	if err != nil {
		t.Fatal(err)
	}
	return p, j
}

func (p *impostor) says(lie func(*jetstream.StreamInfo)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lie = lie
}

func (p *impostor) asked() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.asks
}

// pass hands a request on. The answer to a question about the stream comes by here, all else goes to the asker.
func (p *impostor) pass(m *nats.Msg) {
	subject := "$JS.API" + m.Subject[len("behind"):]
	if subject != "$JS.API.STREAM.INFO.UNITGATE_shop" {
		if err := p.nc.PublishMsg(&nats.Msg{Subject: subject, Reply: m.Reply, Data: m.Data}); err != nil && !errors.Is(err, nats.ErrConnectionClosed) { // what a following sends at the test's end
			p.t.Error(err)
		}
		return
	}
	answer, err := p.nc.Request(subject, m.Data, time.Minute)
	if err != nil {
		p.t.Error(err)
		return
	}
	var info struct {
		Type string `json:"type"`
		jetstream.StreamInfo
	}
	err = json.Unmarshal(answer.Data, &info)
	p.mu.Lock()
	p.asks++
	if p.lie != nil {
		p.lie(&info.StreamInfo)
	}
	p.mu.Unlock()
	b, merr := json.Marshal(info)
	if err := errors.Join(err, merr, m.Respond(b)); err != nil {
		p.t.Error(err)
	}
}

// cluster is what a server says of the stream's three replicas when it is asked: who leads, and when it heard of the others.
func cluster(leader string, n2, n3 time.Duration) func(*jetstream.StreamInfo) {
	return func(info *jetstream.StreamInfo) {
		info.State.LastSeq = 3
		info.Config.Replicas = 3
		info.Cluster = &jetstream.ClusterInfo{Name: "test", Leader: leader, Replicas: []*jetstream.PeerInfo{
			{Name: "n2", Current: true, Active: n2}, {Name: "n3", Current: true, Active: n3},
		}}
	}
}

// A server that does not lead, or leads nobody any more, says that the stream is shorter than the records that are known:
// that proves nothing, for however long it says so. (A leader that was stopped for some seconds did so, and a replica that
// lagged when it was stopped: every controller that asked them gave up its journal for good.)
func TestUnprovenEnd(t *testing.T) {
	for name, lie := range map[string]func(*jetstream.StreamInfo){
		"no leader known":              cluster("", time.Second, time.Second),
		"another one leads":            cluster("n2", time.Second, time.Second),
		"a leader that was stopped":    cluster("n1", 5*time.Second, 6*time.Second),
		"a leader nobody has answered": cluster("n1", 0, 0),
		"a leader that is cut off": func(i *jetstream.StreamInfo) {
			cluster("n1", 1, 1)(i)
			i.Cluster.Replicas[0].Offline, i.Cluster.Replicas[1].Offline = true, true
		},
		"a leader that misses replicas": func(i *jetstream.StreamInfo) { cluster("n1", 1, 1)(i); i.Cluster.Replicas = nil },
	} {
		t.Run(name, func(t *testing.T) {
			journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
				direct := newStream(t, srv.JetStream())
				end := journaltest.Fill(t, direct, journal.Cursor{}, 1, 5)
				p, j := stand(t, srv)
				before := journaltest.Follow(t, j, end)
				synctest.Wait()
				p.says(lie)
				after := journaltest.Follow(t, j, end)
				time.Sleep(time.Minute)
				var broken *journal.BreakError
				if err := j.Check(t.Context(), end); err == nil || errors.As(err, &broken) {
					t.Errorf("the place of record 5: %v", err)
				}
				if err := j.Read(t.Context(), 6, nil); err == nil || errors.As(err, &broken) {
					t.Errorf("reading on after record 5: %v", err)
				}
				if p.asked() < 20 {
					t.Errorf("it was asked %d times in a minute", p.asked())
				}
				p.says(nil)
				journaltest.Fill(t, direct, end, 6, 7)
				before.Until(6, 7)
				after.Until(6, 7)
			})
		})
	}
}

// A leader that has just heard from one of two others speaks for the stream: what it says for some seconds is believed.
func TestProvenEnd(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		end := journaltest.Fill(t, newStream(t, srv.JetStream()), journal.Cursor{}, 1, 5)
		p, j := stand(t, srv)
		f := journaltest.Follow(t, j, end)
		synctest.Wait()
		p.says(cluster("n1", time.Second, time.Minute))
		journaltest.WantBreak(t, f.End(), journal.BreakTruncated, 5)
		journaltest.WantBreak(t, j.Check(t.Context(), end), journal.BreakTruncated, 5)
	})
}

// Moments in which a starting server says that the stream is short do not add up.
func TestDoubtsDoNotAddUp(t *testing.T) {
	journaltest.Bubble(t, func(t *testing.T, srv *journaltest.Server) {
		direct := newStream(t, srv.JetStream())
		end := journaltest.Fill(t, direct, journal.Cursor{}, 1, 5)
		p, j := stand(t, srv)
		f := journaltest.Follow(t, j, end)
		for range 4 {
			synctest.Wait()
			asked := p.asked()
			p.says(func(info *jetstream.StreamInfo) { info.State.LastSeq = 3 })
			for n := 0; p.asked() == asked && n < 10_000; n++ { // one look finds it short
				time.Sleep(time.Millisecond)
			}
			p.says(nil)
			time.Sleep(5 * time.Second)
		}
		journaltest.Fill(t, direct, end, 6, 6)
		f.Until(6, 6)
	})
}
