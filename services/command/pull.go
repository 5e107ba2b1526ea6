package command

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

// How a controller asks for commands. A request is repeated when it ends, and when two heartbeats stayed out.
const (
	pullFor       = 30 * time.Second
	pullHeartbeat = time.Second
)

// puller asks for one command at a time, and only when there is a hand free for it: what waits in a stopped or busy
// controller would wait for nobody. Written by hand because the client library's iterators either take commands in advance
// or lose the one that arrives while they are stopped, which then rests for the whole AckWait. One goroutine uses it.
type puller struct {
	nc      *nats.Conn
	sub     *nats.Subscription
	msgs    chan *nats.Msg
	subject string
	asked   bool // a request is open
}

func (q *queue) pull() (*puller, error) {
	nc, msgs := q.js.Conn(), make(chan *nats.Msg, 64) // one command and what heartbeats come while nobody looks
	sub, err := nc.ChanSubscribe(nc.NewInbox(), msgs)
	if err != nil {
		return nil, fmt.Errorf("receive commands: %w", err)
	}
	sub.SetClosedHandler(func(string) { close(msgs) })
	o := q.js.Options()
	prefix := "$JS.API."
	if o.Domain != "" {
		prefix = "$JS." + o.Domain + ".API."
	}
	if o.APIPrefix != "" {
		prefix = strings.TrimSuffix(o.APIPrefix, ".") + "."
	}
	return &puller{nc: nc, sub: sub, msgs: msgs, subject: fmt.Sprintf("%sCONSUMER.MSG.NEXT.%s.%s", prefix, QueueStream, q.consumer)}, nil
}

// next waits for a command. alive is called whenever the consumer shows that it is there. An error other than ctx's means
// that the consumer may be gone: open it again.
func (p *puller) next(ctx context.Context, alive func()) (*nats.Msg, error) {
	for {
		if !p.asked {
			m := nats.NewMsg(p.subject)
			m.Reply = p.sub.Subject
			m.Data = fmt.Appendf(nil, `{"batch":1,"expires":%d,"idle_heartbeat":%d}`, pullFor, pullHeartbeat)
			if err := p.nc.PublishMsg(m); err != nil {
				return nil, fmt.Errorf("ask for commands: %w", err)
			}
			p.asked = true
		}
		m, err := p.wait(ctx)
		if err != nil {
			return nil, err
		}
		switch status := m.Header.Get("Status"); {
		case isDelivery(m):
			p.asked = false
			alive()
			return m, nil
		case status == "100": // a heartbeat
			alive()
		case status == "408" || status == "404": // the request has ended
			p.asked = false
			alive()
		default:
			return nil, fmt.Errorf("the consumer of %s answers %s %s", QueueStream, status, m.Header.Get("Description"))
		}
	}
}

// isDelivery tells a command from a word of the consumer. By its reply subject, which the server sets: headers are the
// publisher's, and one that looks like a status must not stop the queue.
func isDelivery(m *nats.Msg) bool { return strings.HasPrefix(m.Reply, "$JS.ACK.") }

func (p *puller) wait(ctx context.Context) (*nats.Msg, error) {
	silence := time.NewTimer(3 * pullHeartbeat)
	defer silence.Stop()
	select {
	case m, ok := <-p.msgs:
		if !ok {
			return nil, nats.ErrConnectionClosed
		}
		return m, nil
	case <-silence.C:
		return nil, fmt.Errorf("the consumer of %s is silent", QueueStream)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// close stops receiving and gives back what had already been sent here.
func (p *puller) close() {
	if p.sub.Drain() != nil {
		return // the connection is closed
	}
	patience := time.NewTimer(askWait)
	defer patience.Stop()
	for {
		select {
		case m, ok := <-p.msgs:
			if !ok {
				return
			}
			if isDelivery(m) {
				_ = p.nc.Publish(m.Reply, []byte("-NAK")) // else it comes again after AckWait
			}
		case <-patience.C:
			return
		}
	}
}
