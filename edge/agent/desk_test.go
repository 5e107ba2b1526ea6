package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/routing"
)

// raw sends the bytes of a question and returns the answer's error.
func (e *edge) raw(what string, body []byte) *events.Error {
	e.l.t.Helper()
	m, err := e.l.nc.Request("unitgate.edge.demo.unbj."+e.r.ID()+"."+what, body, patience)
	if err != nil {
		e.l.t.Fatalf("%s: %v", what, err)
	}
	var answer struct{ Error *events.Error }
	if err := json.Unmarshal(m.Data, &answer); err != nil {
		e.l.t.Fatalf("%s: %s", m.Data, err)
	}
	return answer.Error
}

// packed is JSON that has been packed, whatever its size.
func packed(t *testing.T, text string) []byte {
	t.Helper()
	b := events.Pack([]byte(text))
	if !events.IsPacked(b) {
		t.Fatal("it does not become shorter")
	}
	return b
}

// Every question has a bound that holds before anything of it is read: by its size, packed and unpacked, and by how many
// things it names. What is beyond is refused with a code, and says what to do.
func TestQuestionsAreBoundedBeforeTheyAreRead(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	e.view("the join", admitting)
	e.relay.mu.Lock()
	e.relay.onKeys = func(string, routing.Keys, routing.IDs) int { t.Error("a poller is asked"); return 0 }
	e.relay.mu.Unlock()

	long := strings.Repeat("a", 1<<20)
	bomb := packed(t, `{"a":"`+strings.Repeat("a", 9<<20)+`"}`)
	for what, large := range map[string]string{
		events.AskStatus:    `{"a":"` + long[:1<<10] + `"}`,
		events.AskStanding:  `{"a":"` + long[:1<<10] + `"}`,
		events.AskSessions:  "", // what NATS takes by default is not too large
		events.AskCount:     "",
		events.AskEvict:     `{"routerId":"7","reason":"` + long[:8<<10] + `"}`,
		events.AskProbe:     `{"origins":["` + long[:288<<10] + `"]}`,
		events.AskHandshake: `{"services":[{"host":"` + long[:160<<10] + `"}]}`,
		events.AskCutover:   `{"cutover":"` + long[:8<<10] + `"}`,
	} {
		if large != "" {
			if err := e.raw(what, []byte(large)); err == nil || err.Code != "too_large" || !strings.Contains(err.Message, "ask for less") {
				t.Errorf("%s, %d bytes: %v", what, len(large), err)
			}
		}
		if err := e.raw(what, bomb); err == nil || err.Code != "too_large" {
			t.Errorf("%s, packed: %v", what, err)
		}
	}
	// Small, and packed all the same.
	for _, what := range []string{events.AskStatus, events.AskEvict, events.AskCutover} {
		if err := e.raw(what, []byte(`{"packed":"q1YqLU4tykxRslIyV9JRKkpNLM7PA7JKiopTlWoB"}`)); err == nil || err.Code != "bad_value" || !strings.Contains(err.Message, "does not come packed") {
			t.Errorf("%s, packed: %v", what, err)
		}
	}
	ranges := func(n int) string { return `{"slots":[` + strings.Repeat(`"0-9999",`, n) + `"7"]}` }
	for what, body := range map[string][]byte{
		"10,001":  []byte(ranges(10_000)),
		"85,001":  []byte(ranges(85_000)),
		"932,001": packed(t, ranges(932_000)),
	} {
		if err := e.raw(events.AskCount, body); err == nil || err.Code != "too_large" {
			t.Errorf("%s ranges of 10,000 slots: %v", what, err)
		}
	}
	fences := `{"cutover":"c","unitType":"unit_type","users":1,"fences":[` + strings.Repeat("1,", events.MaxFences) + `1]}`
	if err := e.raw(events.AskCutover, []byte(fences)); err == nil || err.Code != "bad_value" {
		t.Errorf("%d fences: %v", events.MaxFences+1, err)
	}
	e.stop()
}

// As many ranges as there are slots are one: each slot is named once, however they are put.
func TestRangesAreMergedBeforeTheRelayIsAsked(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	e.view("the join", admitting)
	asked := make(chan []routing.Range, 1)
	e.relay.mu.Lock()
	e.relay.onKeys = func(_ string, k routing.Keys, _ routing.IDs) int { asked <- k.Slots; return 1 }
	e.relay.mu.Unlock()
	if err := e.raw(events.AskSessions, []byte(`{"slots":[`+strings.Repeat(`"0-9999",`, 9_999)+`"7"]}`)); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; len(got) != 1 || got[0] != (routing.Range{From: 0, To: 9999}) {
		t.Errorf("the relay is asked for %d ranges", len(got))
	}
	e.stop()
}

// Questions of one kind cannot take the places of another's: while more of them come than can be answered, the excess is
// told so at once, and everything else is answered as ever.
func TestOneKindOfQuestionsStarvesNoOther(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	e.view("the join", admitting)
	free := make(chan struct{})
	var inside atomic.Int64
	e.relay.mu.Lock()
	e.relay.onKeys = func(_ string, k routing.Keys, _ routing.IDs) int {
		if k.Exact.Has("slow") {
			inside.Add(1)
			<-free
		}
		return 7
	}
	e.relay.mu.Unlock()
	const most = 2 + 64 // see newDesks
	question, _ := json.Marshal(events.CountQuestion{Exact: routing.MustIDs("slow")})
	inbox, err := l.nc.SubscribeSync(nats.NewInbox())
	if err != nil {
		t.Fatal(err)
	}
	for range most + 20 {
		if err := l.nc.PublishRequest("unitgate.edge.demo.unbj."+e.r.ID()+".sessions", inbox.Subject, question); err != nil {
			t.Fatal(err)
		}
	}
	for range 20 {
		m, err := inbox.NextMsg(patience)
		if err != nil || !strings.Contains(string(m.Data), `"code":"busy"`) || !strings.Contains(string(m.Data), "ask again") {
			t.Fatalf("%s, %v", m.Data, err)
		}
	}
	for what, body := range map[string]string{
		events.AskStatus: `{}`, events.AskStanding: `{}`, events.AskCount: `{"slots":["1"]}`, events.AskEvict: `{"routerId":"7"}`,
		events.AskProbe: `{"origins":[]}`, events.AskHandshake: `{"services":[]}`, events.AskCutover: `{"cutover":"c","users":1}`,
	} {
		if err := e.raw(what, []byte(body)); err != nil {
			t.Errorf("%s is answered with %v", what, err)
		}
	}
	close(free)
	if n := inside.Load(); n != 2 {
		t.Errorf("%d questions at a time", n)
	}
	if q := e.r.Questions()["sessions"]; q["busy"] != 20 {
		t.Errorf("%v", q)
	}
	e.stop()
}

// Questions come on a connection of their own. nats.go reads a connection's messages one after the other and takes their
// headers apart before anybody sees them, 100 ms for 90,000 of them: behind such messages no grant would come in time.
func TestQuestionsComeOnAConnectionOfTheirOwn(t *testing.T) {
	l := newLab(t)
	l.admit()
	e := l.start(t.TempDir())
	e.view("the join", admitting)
	headers := nats.Header{}
	for i := range 60_000 {
		headers[fmt.Sprint(i)] = []string{"1"}
	}
	before := e.r.nc.Stats()
	for range 20 {
		m := &nats.Msg{Subject: "unitgate.edge.demo.unbj." + e.r.ID() + ".sessions", Reply: nats.NewInbox(), Header: headers, Data: []byte(`{"routerId":"7"}`)}
		if err := l.nc.PublishMsg(m); err != nil {
			t.Fatal(err)
		}
	}
	var st Status
	e.ask("status", struct{}{}, &st) // comes behind them
	if got := e.r.nc.Stats().InBytes - before.InBytes; got > 100_000 {
		t.Errorf("%d bytes of questions came where grants do", got)
	}
	if got := e.r.asks.Stats().InBytes; got < 20*60_000*6 {
		t.Errorf("%d bytes of questions came", got)
	}
	e.stop()
}

// deskOf is a desk outside of a running edge, for one that the journal knows. Answers go nowhere.
func deskOf(ctx context.Context, d *desk) *answers {
	s := events.NewState()
	s.Edges["bj-1"] = events.Edge{ID: "bj-1", Directory: "d"}
	a := &answers{ctx: ctx, r: &Runner{self: Self{ID: "bj-1", Directory: "d"}, log: discard(), follower: newFollower("demo", nil, nil, &Saved{State: s}, discard())}}
	d.open(ctx, a)
	return a
}

// A question for which nobody waits any more is not answered: an eviction would come out of the blue.
func TestQuestionsThatWaitedTooLongAreNotAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := 0
		d := &desk{what: events.AskEvict, clerks: 1, room: 8, within: 2 * time.Second, answer: func(context.Context, []byte) (any, error) {
			done++
			time.Sleep(1500 * time.Millisecond)
			return nil, nil
		}}
		a := deskOf(ctx, d)
		for range 5 {
			d.take(a, &nats.Msg{Reply: "x"})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if done != 2 || d.counts[answered].Load() != 2 || d.counts[busy].Load() != 3 {
			t.Errorf("%d of 5 were answered, %d refused", done, d.counts[busy].Load())
		}
		cancel()
		a.work.Wait()
	})
}

// A clerk rests as long as it is told, so that whoever asks without end gets no more than a share of a processor.
func TestClerksRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		done := 0
		d := &desk{what: events.AskSessions, clerks: 1, room: 1, within: time.Hour, rest: 9, answer: func(context.Context, []byte) (any, error) {
			done++
			time.Sleep(10 * time.Millisecond)
			return nil, nil
		}}
		a := deskOf(ctx, d)
		for range 10_000 { // for ten seconds
			d.take(a, &nats.Msg{Reply: "x"})
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if done < 95 || done > 105 {
			t.Errorf("%d answers of 10 ms in 10 s, want a tenth of the time", done)
		}
		if n := d.counts[busy].Load(); n > 11*maxRefusals {
			t.Errorf("%d refusals, want %d a second at most", n, maxRefusals)
		}
		cancel()
		a.work.Wait()
	})
}

// One answer is for all who ask for the status meanwhile, and was made after they had asked.
func TestOneStatusForAllWhoAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		made := 0
		d := &desk{what: events.AskStatus, clerks: 1, room: 256, within: time.Hour, shared: true, answer: func(context.Context, []byte) (any, error) {
			made++
			time.Sleep(100 * time.Millisecond)
			return made, nil
		}}
		a := deskOf(ctx, d)
		d.take(a, &nats.Msg{Reply: "x"})
		synctest.Wait() // it is being answered
		for range 200 {
			d.take(a, &nats.Msg{Reply: "x"})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if made != 2 || d.counts[answered].Load() != 201 {
			t.Errorf("%d answers for %d questions, want 2 for 201", made, d.counts[answered].Load())
		}
		cancel()
		a.work.Wait()
	})
}

// Origins that do not answer cost a probe no more time than its asker has, and each is tried once.
func TestProbeEndsInTime(t *testing.T) {
	r := &Runner{cfg: Config{Relay: &fakeRelay{}}}
	var list []string
	for i := range events.MaxProbes {
		list = append(list, fmt.Sprintf("127.0.0.1:%d", i%3+1))
	}
	body, _ := json.Marshal(events.ProbeQuestion{Origins: list})
	v, err := r.answerProbe(t.Context(), body, make(chan struct{}, 1))
	if err != nil || len(v.(events.ProbeAnswer).Failed) != 3 {
		t.Errorf("%v, %v", v, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	places := make(chan struct{}, 1)
	places <- struct{}{} // all are taken
	v, err = r.answerProbe(ended, body, places)
	if a, _ := v.(events.ProbeAnswer); err != nil || len(a.Failed) != 3 || !strings.Contains(a.Failed["127.0.0.1:1"], "canceled") {
		t.Errorf("%v, %v", v, err)
	}
}

// An eviction that met nobody costs its sender nothing: beyond so many in a second they are not logged one by one.
func TestFloodOfEvictionsIsNoFloodOfLines(t *testing.T) {
	lines := &counter{}
	r := &Runner{log: lines.logger()}
	for range 5000 {
		r.logEviction(t.Context(), &events.EvictQuestion{RouterID: "7"}, 0)
	}
	if n := lines.n.Load(); n < maxIdleEvictions || n > 10*maxIdleEvictions {
		t.Errorf("%d lines of 5000 evictions", n)
	}
	before := lines.n.Load()
	for range 100 {
		r.logEviction(t.Context(), &events.EvictQuestion{RouterID: "7"}, 1)
	}
	if n := lines.n.Load() - before; n != 100 {
		t.Errorf("%d lines of 100 evictions of somebody", n)
	}
}

// counter counts lines of a log.
type counter struct{ n atomic.Int64 }

func (c *counter) Write(b []byte) (int, error) { c.n.Add(1); return len(b), nil }

func (c *counter) logger() *slog.Logger { return slog.New(slog.NewTextHandler(c, nil)) }
