package integration_test

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/integration/harness"
	"github.com/unitgate/unitgate/services/command"
)

// sentCommand is one unit.put of this test.
type sentCommand struct {
	id, unit string
	queued   bool   // it went the durable way, and the queue said that it has it
	seq      uint64 // as acknowledged; 0: not yet
	counted  bool   // among those that a life acknowledged
}

// ledger remembers every command before it is sent. Several goroutines add to it; the test reads it between lives.
type ledger struct {
	mu  sync.Mutex
	all []*sentCommand
}

func newLedger() *ledger { return &ledger{} }

func (l *ledger) add() *sentCommand {
	l.mu.Lock()
	defer l.mu.Unlock()
	id := uuid.NewString()
	// Few enough units that a long run's state stays small: most commands give one of them another name.
	c := &sentCommand{id: id, unit: "extra-" + id[:1]}
	l.all = append(l.all, c)
	return c
}

// sender is a connection to one life of the system, which does not outlast it.
type sender struct {
	nc     *nats.Conn
	client *command.Client
	ns     string
	sent   *ledger
}

func dial(t *testing.T, dev *harness.Dev, sent *ledger) *sender {
	t.Helper()
	nc, err := nats.Connect(dev.NATS, nats.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	return &sender{nc, command.NewClient(nc, dev.Namespace), dev.Namespace, sent}
}

func (c *sentCommand) request() command.Request {
	return command.Request{ID: c.id, Actor: "kill9", Data: map[string]string{"id": c.unit, "name": c.id}}
}

// must sends a command whose outcome has to be good, and returns its sequence.
func (s *sender) must(t *testing.T, c *sentCommand) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	o, err := s.client.Do(ctx, "unit", "put", c.request())
	if err != nil || !o.OK || o.Seq == 0 {
		t.Fatalf("unit.put %s: %+v, %v", c.id, o, err)
	}
	return o.Seq
}

func (s *sender) settled(t *testing.T, id string, within time.Duration) command.Settled {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	o, err := s.client.Outcome(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// direct sends commands over the api until the life ends.
func (s *sender) direct(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil && s.nc.IsConnected() {
		c := s.sent.add()
		o, err := s.client.Do(ctx, "unit", "put", c.request())
		s.note(ctx, t, c, o, err)
	}
}

// durable queues commands and waits for each one's outcome until the life ends.
func (s *sender) durable(ctx context.Context, t *testing.T) {
	for ctx.Err() == nil && s.nc.IsConnected() {
		c := s.sent.add()
		if _, err := s.client.Publish(ctx, "unit", "put", c.request(), time.Hour); err != nil {
			s.note(ctx, t, c, command.Outcome{}, err)
			continue
		}
		c.queued = true
		o, err := s.client.Outcome(ctx, c.id)
		s.note(ctx, t, c, o.Outcome, err)
	}
}

// note takes an acknowledgement down. Errors are the kill's; a rejection is nobody's.
func (s *sender) note(ctx context.Context, t *testing.T, c *sentCommand, o command.Outcome, err error) {
	switch {
	case err == nil && o.OK:
		c.seq = o.Seq
	case err == nil:
		t.Errorf("unit.put %s was rejected: %v", c.id, o.Error)
	case ctx.Err() == nil && s.nc.IsConnected():
		t.Logf("unit.put %s before the kill: %v", c.id, err)
	}
}

// move starts a cutover of the mover's range to the other unit, slowly, so that kills find it fenced.
func (s *sender) move(ctx context.Context, t *testing.T, from string) {
	ranges := map[string][]string{"center": {"0-5997"}, "unbj": {"5998-9999"}}
	if from == "unbj" {
		ranges = map[string][]string{"center": {"0-6380"}, "unbj": {"6381-9999"}}
	}
	var proposed struct {
		ID string `json:"id"`
	}
	o, err := s.client.Do(ctx, "cutover", "preview", command.Request{Actor: "kill9", Data: map[string]any{"ranges": ranges, "rate": 8, "waves": 1}})
	if err == nil && o.OK && json.Unmarshal(o.Data, &proposed) == nil {
		o, err = s.client.Do(ctx, "cutover", "start", command.Request{Actor: "kill9", Data: map[string]string{"cutover": proposed.ID}})
	}
	if (err != nil || !o.OK) && ctx.Err() == nil && s.nc.IsConnected() {
		t.Logf("cutover %s: %v, %v", proposed.ID, o.Error, err)
	}
}

// trafficUntilKilled sends until a random moment, and kills there.
func (k *kill9) trafficUntilKilled(t *testing.T) {
	t.Helper()
	s := dial(t, k.dev, k.sent)
	defer s.nc.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for range 3 {
		work.Go(func() { s.direct(ctx, t) })
	}
	for range 2 {
		work.Go(func() { s.durable(ctx, t) })
	}
	moved := make(chan struct{})
	if k.rand.IntN(2) == 0 {
		k.totals["cutovers wanted"]++
		from := k.dev.Route(t, mover).Unit
		work.Go(func() {
			defer close(moved)
			s.move(ctx, t, from)
		})
		if k.rand.IntN(4) > 0 { // else the kill finds the preview, the prechecks, or the start
			select {
			case <-moved:
			case <-time.After(within):
			}
		}
	}
	// The moment is the test's subject, so this waits for a time and not for an event.
	<-time.After(time.Duration(20+k.rand.IntN(600)) * time.Millisecond)
	k.crowd.close()
	k.dev.Kill()
	cancel()
	work.Wait()
	k.totals["kills"]++
	for _, c := range k.sent.all {
		if c.seq != 0 && !c.counted {
			c.counted = true
			k.totals["acknowledged before a kill"]++
		}
	}
}

// readOn reads the journal's new records, past every layer of ours, and keeps the sequence of each command.
func (k *kill9) readOn(t *testing.T) {
	t.Helper()
	head := k.dev.Head(t)
	if head < k.head {
		t.Fatalf("the journal ends at %d, it was read up to %d before", head, k.head)
	}
	if head == k.head {
		return
	}
	nc, err := nats.Connect(k.dev.NATS)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := js.OrderedConsumer(t.Context(), "UNITGATE_"+k.dev.Namespace,
		jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: k.head + 1})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := reader.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for k.head < head {
		m, err := messages.Next()
		if err != nil {
			t.Fatal(err)
		}
		at, err := m.Metadata()
		if err != nil || at.Sequence.Stream != k.head+1 {
			t.Fatalf("after %d the journal has %+v, %v", k.head, at, err)
		}
		k.head++
		// unitgate.evt.<namespace>.<entity>.<verb>.<command id>
		parts := strings.Split(m.Subject(), ".")
		switch {
		case parts[3] == "cutover":
			k.moving = parts[4] == "started" || parts[4] == "resumed"
		case parts[3] == "driver" && k.moving:
			k.totals["cutovers taken over by the next life"]++
		}
		if parts[3] != "unit" {
			continue
		}
		id := parts[len(parts)-1]
		if first := k.journal[id]; first != 0 {
			t.Fatalf("the command %s took effect at %d and at %d", id, first, k.head)
		}
		k.journal[id] = k.head
	}
}
