package command_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/events/journal/journaltest"
	"github.com/unitgate/unitgate/services/command"
)

// cutting is a journal whose controller loses the bus right before it sends an append: the client keeps what it was given,
// and sends it when the bus is back.
type cutting struct {
	journal.Journal
	cut func()
}

func (c cutting) Append(ctx context.Context, after uint64, rec events.Record) (events.Record, error) {
	c.cut()
	return c.Journal.Append(ctx, after, rec)
}

// A controller is cut off in the middle of its append for longer than it keeps its command. Whatever its successor answers
// must still be true when the cut heals and the append comes after all.
func TestAppendThatComesLate(t *testing.T) {
	for name, expires := range map[string]time.Duration{"expired": 10 * time.Second, "in time": time.Hour} {
		t.Run(name, func(t *testing.T) {
			journaltest.Bubble(t, func(t *testing.T, s *journaltest.Server) {
				js, cl := s.JetStream(s.Uncut()), command.NewClient(s.Connect(s.Uncut()), "shop")
				var armed atomic.Bool
				control(t, s, func(c *controller) {
					c.wrap = func(j journal.Journal) journal.Journal {
						return cutting{j, func() {
							if armed.CompareAndSwap(true, false) {
								s.Cut()
								synctest.Wait()
							}
						}}
					}
				})
				createShop(t, cl)
				armed.Store(true)
				ticket := publish(t, cl, putUnit("u1"), expires)
				time.Sleep(20 * time.Second)
				if armed.Load() {
					t.Fatal("the controller has not begun its append")
				}
				control(t, s, func(c *controller) { c.nc = s.Connect(s.Uncut()) })
				o := outcome(t, cl, ticket.ID)
				if o.OK != (expires == time.Hour) {
					t.Errorf("outcome %+v %v", o, o.Error)
				}
				s.Heal()
				time.Sleep(time.Minute)
				all := records(t, js)
				stored := slices.ContainsFunc(all, func(r events.Record) bool { return r.CommandID == ticket.ID })
				if len(all) != 2 { // the command's event, or the refusal that keeps it out
					t.Errorf("journal has %d records, want 2", len(all))
				}
				if later := outcome(t, cl, ticket.ID); stored != o.OK || later.OK != o.OK {
					t.Errorf("the outcome was ok=%v and is ok=%v; the event is stored: %v", o.OK, later.OK, stored)
				}
				if n := waiting(t, js); n != 0 {
					t.Errorf("%d commands wait", n)
				}
			})
		})
	}
}
