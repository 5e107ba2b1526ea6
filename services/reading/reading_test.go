package reading

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
)

// books are the journals of a test.
type books map[string]*journal.Pages

func (b books) Pages(_ context.Context, ns string) (*journal.Pages, error) {
	if b[ns] == nil {
		return nil, journal.ErrNoJournal
	}
	return b[ns], nil
}

// Member: those whose name begins so are registered.
func (b books) Member(_, unit, edge string) bool { return strings.HasPrefix(edge, unit+"-") }

func (b books) List(context.Context) ([]journal.Listed, error) {
	return []journal.Listed{{Name: "shop", Epoch: "e", Head: 3}}, nil
}

func (b books) Outcome(_ context.Context, ns, id string) ([]byte, error) {
	if ns == "shop" && strings.HasPrefix(id, "0") {
		return []byte(`{"ok":true}`), nil
	}
	return nil, nil
}

const someID = "0b6e4ee1-2f6d-4f5e-9b0c-6f6b4d5b9d11"

// TestQuestions: each subject takes its questions, and what is none is answered as such.
func TestQuestions(t *testing.T) {
	srv := journaltest.StartServer(t)
	js := srv.JetStream()
	j, err := journal.Create(t.Context(), js, "shop", journal.Options{})
	if err != nil {
		t.Fatal(err)
	}
	journaltest.Fill(t, j, journal.Cursor{}, 1, 3)
	s, err := Serve(Config{
		Edges: srv.Connect(), Operators: srv.Connect(), Observers: srv.Connect(),
		Journals: books{"shop": journal.NewPages(j)}, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	nc := srv.Connect()
	for _, q := range []struct{ subject, body, want string }{
		{"unitgate.journal.shop", ``, `"head":3}`},
		{"unitgate.journal.shop.observers", `{}`, `"head":3}`},
		{"unitgate.journal.shop", `{"after":1}`, `"records":[{"seq":2,`},
		{"unitgate.edge.shop.center.center-1.read", `{"after":2}`, `"records":[{"seq":3,`},
		{"unitgate.journal.shop", `{"find":{"entity":"unit","verb":"put","id":"00000000-0000-4000-8000-000000000002"}}`, `"records":[{"seq":2,`},
		{"unitgate.journal.shop", `{"find":{"entity":"*","verb":">","id":""}}`, `"code":"bad_question"`},
		{"unitgate.journal.shop", `{"outcome":"` + someID + `"}`, `"outcome":{"ok":true}`},
		{"unitgate.journal.shop", `{"outcome":"*"}`, `"code":"bad_id"`},
		{"unitgate.journal.shop", `{"after":-1}`, `"code":"bad_question"`},
		{"unitgate.journal.shop", `[`, `"code":"bad_question"`},
		{"unitgate.journal.shop", strings.Repeat(" ", maxQuestion+1), `"code":"bad_question"`},
		{"unitgate.journal.other", ``, `"code":"unknown_namespace"`},
		{"unitgate.journal.OTHER", ``, `"code":"bad_question"`},
		{"unitgate.edge.shop.center.Center.read", ``, `"code":"bad_question"`},
		{"unitgate.namespaces", ``, `"listed":[{"name":"shop","epoch":"e","head":3}]`},
		{"unitgate.namespaces.operators", ``, `"listed":[{"name":"shop","epoch":"e","head":3}]`},
	} {
		m, err := nc.Request(q.subject, []byte(q.body), 10*time.Second)
		if err != nil {
			t.Fatalf("%s %s: %v", q.subject, q.body, err)
		}
		if !strings.Contains(string(m.Data), q.want) || !json.Valid(m.Data) {
			t.Errorf("%s %.100s: %s, want %s", q.subject, q.body, m.Data, q.want)
		}
	}
}

// lab has lanes whose work takes a second each, and notes what was worked on.
type lab struct {
	lanes
	mu   sync.Mutex
	done []string
}

func newLab() *lab {
	l := &lab{lanes: lanes{by: map[string]*lane{}}}
	l.work = func(q question) {
		time.Sleep(time.Second)
		l.mu.Lock()
		l.done = append(l.done, q.msg.Subject)
		l.mu.Unlock()
	}
	return l
}

func (l *lab) ask(lane, asker, what string) bool {
	return l.add(place{lane: lane, asker: asker}, question{msg: &nats.Msg{Subject: what}})
}

// worked is what was worked on so far.
func (l *lab) worked() []string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.done)
}

// TestOneEdgesFlood: of one edge only the newest question counts, and its siblings' turns come all the same.
func TestOneEdgesFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		for n := range 100_000 {
			if !l.ask("unit.shop.center", "center-1", fmt.Sprint("flood ", n)) {
				t.Fatal("no room for an edge that has its place")
			}
		}
		l.ask("unit.shop.center", "center-2", "quiet")
		time.Sleep(time.Minute)
		if got := l.worked(); len(got) > 3 || got[len(got)-1] != "quiet" || !slices.Contains(got, "flood 99999") {
			t.Errorf("%q", got)
		}
		l.close()
	})
}

// TestOneRolesFlood: a role's lane is of bounded length, and another role's question waits for none of it.
func TestOneRolesFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		refused := 0
		for n := range 1000 {
			if !l.ask("role.observers", "", fmt.Sprint(n)) {
				refused++
			}
		}
		if refused < 1000-maxRole-1 {
			t.Errorf("%d of 1000 were refused", refused)
		}
		if !l.ask("role.operators", "", "mine") || !l.ask("unit.shop.center", "center-1", "edge") {
			t.Error("no room for others")
		}
		time.Sleep(1500 * time.Millisecond)
		if got := l.worked(); !slices.Contains(got, "mine") || !slices.Contains(got, "edge") {
			t.Errorf("%q after a second and a half", got)
		}
		l.close()
	})
}

// TestGhosts: edges that a unit's user makes up fill their unit's lane only, and lanes are of bounded number.
func TestGhosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab()
		taken := 0
		for n := range 10_000 {
			if l.ask("unit.shop.center", fmt.Sprint("ghost-", n), "") {
				taken++
			}
		}
		if taken > maxWaiting+1 {
			t.Errorf("%d ghosts wait", taken)
		}
		if !l.ask("unit.shop.unbj", "unbj-1", "true") {
			t.Error("no room for another unit's edge")
		}
		lanes := 0
		for n := range 10_000 {
			if l.ask(fmt.Sprint("unit.ns.", n), "a", "") {
				lanes++
			}
		}
		if lanes > maxLanes {
			t.Errorf("%d lanes", lanes)
		}
		l.close()
		if l.ask("unit.shop.unbj", "unbj-1", "") {
			t.Error("a question is taken after the end")
		}
	})
}

// TestStrangersKeepNobodyWaiting: however many names a unit's user makes up, its registered edges wait for none of them.
func TestStrangersKeepNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Service{of: books{}, log: slog.New(slog.DiscardHandler), lanes: lanes{by: map[string]*lane{}}}
		var done sync.Map
		s.work = func(q question) {
			time.Sleep(time.Second)
			done.Store(q.msg.Subject, true)
		}
		ask := func(edge string) {
			s.take(&nats.Msg{Subject: journal.EdgeAskSubject("shop", "center", edge), Reply: "x"}, byEdge)
		}
		for n := range 500 {
			ask(fmt.Sprint("ghost-", n))
		}
		ask("center-1")
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if _, ok := done.Load(journal.EdgeAskSubject("shop", "center", "center-1")); !ok {
			t.Error("a registered edge waits for strangers")
		}
		s.lanes.close()
	})
}

// TestLateQuestion: what nobody waits for any more costs no look into a journal.
func TestLateQuestion(t *testing.T) {
	asked := false
	s := &Service{of: lookedAt{&asked}, log: slog.New(slog.DiscardHandler)}
	s.answer(t.Context(), question{msg: &nats.Msg{}, namespace: "shop", arrived: time.Now().Add(-answerWithin)})
	if asked {
		t.Error("a journal was looked at")
	}
}

type lookedAt struct{ yes *bool }

func (l lookedAt) Pages(context.Context, string) (*journal.Pages, error) {
	*l.yes = true
	return nil, errors.New("no")
}
func (l lookedAt) Member(string, string, string) bool                      { return false }
func (l lookedAt) List(context.Context) ([]journal.Listed, error)          { return nil, nil }
func (l lookedAt) Outcome(context.Context, string, string) ([]byte, error) { return nil, nil }
