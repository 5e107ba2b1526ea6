package journal

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// noticeGrace is how long a record that is known to exist may take to come by the consumer. What carries the news is
	// often faster than the consumer by a moment.
	noticeGrace = 150 * time.Millisecond

	// fetchAtMost bounds the records that are fetched one by one. Who lacks more gets them from a new consumer.
	fetchAtMost = 64
)

// Notice implements [Journal]: a record that does not come by the consumer in a moment is fetched by its sequence. A wrong
// number costs a question, and is forgotten with it: the next one counts anew.
func (s *Stream) Notice(head uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if head <= s.noticed {
		return
	}
	s.noticed = head
	if s.news != nil {
		close(s.news)
		s.news = nil
	}
}

// Notice implements [Journal]. Nothing is ever late in memory.
func (m *Memory) Notice(uint64) {}

// forget forgets a notice that is being looked after, so that the next one counts, however much lower it is.
func (s *Stream) forget(head uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.noticed <= head {
		s.noticed = 0
	}
}

// noticedHead is the newest sequence that Notice was told of, and a channel that closes when there is a newer one.
func (s *Stream) noticedHead() (uint64, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.news == nil {
		s.news = make(chan struct{})
	}
	return s.noticed, s.news
}

// seek looks for what was noticed, once. What is noticed from here on is looked for again, whatever comes of this.
func (x *session) seek(ctx context.Context) {
	head := x.wanted
	x.wanted = 0
	x.s.forget(head)
	x.fetch(ctx, head)
}

// fetch admits the records up to a sequence that have not come by the consumer, each asked for by its sequence: any
// replica answers. It is called by the watching goroutine and takes the handler's place meanwhile, so that records come
// in order; what the consumer brings of them later is passed over. A record that cannot be had is left to the consumer.
func (x *session) fetch(ctx context.Context, head uint64) {
	for range fetchAtMost {
		next := x.reached.Load() + 1
		if next > head || ctx.Err() != nil {
			return
		}
		m, err := x.direct(ctx, next)
		if err != nil {
			return
		}
		if !x.admitFetched(next, m) {
			return
		}
	}
}

// admitFetched handles a fetched message unless its record has come meanwhile; false ends the fetching.
func (x *session) admitFetched(seq uint64, m *nats.Msg) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed != nil || x.verify { // the cursor's own record comes first
		return false
	}
	if seq <= x.chain.seq {
		return true
	}
	if x.failed = x.record(m.Subject, m.Header, m.Data, seq); x.failed != nil {
		close(x.over)
		return false
	}
	x.fetched = seq
	return true
}

// direct asks any replica for one stored message.
func (x *session) direct(ctx context.Context, seq uint64) (m *nats.Msg, err error) {
	err = x.s.ask(ctx, requestTimeout, func(ctx context.Context) (err error) {
		m, err = x.s.conn().RequestWithContext(ctx, x.s.api("DIRECT.GET"), fmt.Appendf(nil, `{"seq":%d}`, seq))
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case m.Header.Get("Status") != "":
		return nil, fmt.Errorf("record %d: %s %s", seq, m.Header.Get("Status"), m.Header.Get("Description"))
	case added(m.Header, jetstream.SequenceHeader) != strconv.FormatUint(seq, 10):
		return nil, errors.New("another record was answered") // a replica with a hole; the consumer will show it
	}
	m.Subject = added(m.Header, jetstream.SubjectHeader)
	return m, nil
}
