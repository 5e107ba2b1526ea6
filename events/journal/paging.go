package journal

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
)

// newsPause is how long a reader waits after an answer that lacks what it was told of: a replica lags, or the news were
// wrong.
const newsPause = 20 * time.Millisecond

// paging is a part of a following that asks the control plane page by page. All of it belongs to the goroutine that
// follows, but for told and woken.
type paging struct {
	*follower
	verify bool           // the next record is the one at the cursor, for its hash
	told   atomic.Uint64  // newest sequence in the news
	woken  chan struct{}  // 1 deep: news came
	asking sync.WaitGroup // questions under way
}

// page is what came of a question.
type page struct {
	answer Answer
	err    error
}

// pages follows by asking until ctx ends, the records wanted are read, something is wrong with the journal or with fn, or
// the control plane does not answer (errAgain).
func (f *follower) pages(ctx context.Context) error {
	p := &paging{follower: f, verify: f.chain.seq > 0, woken: make(chan struct{}, 1)}
	sub, err := f.s.conn().Subscribe(NewsSubject(f.s.ns), p.hear)
	if err != nil {
		return fmt.Errorf("%w: %w", errAgain, err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	lost := f.s.conn().StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer f.s.conn().RemoveStatusListener(lost)
	ctx, cancel := context.WithCancel(ctx)
	defer p.asking.Wait()
	defer cancel()
	return p.run(ctx, lost)
}

func (p *paging) run(ctx context.Context, lost <-chan nats.Status) error {
	from := p.chain.seq
	if p.verify {
		from-- // the record at the cursor once more
	}
	coming := p.ask(ctx, from)
	for hinted := false; ; {
		got := <-coming
		if got.err != nil && ctx.Err() == nil {
			return fmt.Errorf("%w: %w", errAgain, got.err)
		}
		var ahead <-chan page // asked for while this page is taken
		n := len(got.answer.Records)
		if n > 0 && got.answer.Records[n-1].Seq < got.answer.Head {
			ahead = p.ask(ctx, got.answer.Records[n-1].Seq)
		}
		if err := p.take(ctx, &got.answer); err != nil {
			return err
		}
		if ahead != nil {
			coming = ahead
			continue
		}
		lacks := got.answer.Head > p.chain.seq
		if n == 0 && (lacks || hinted) {
			if err := pause(ctx, newsPause); err != nil {
				return err
			}
		}
		if hinted = false; !lacks {
			var err error
			if hinted, err = p.wait(ctx, lost); err != nil {
				return err
			}
		}
		coming = p.ask(ctx, p.chain.seq)
	}
}

// ask asks for the records after a sequence. The channel gets one page.
func (p *paging) ask(ctx context.Context, after uint64) <-chan page {
	out := make(chan page, 1)
	p.asking.Go(func() {
		answer, err := p.s.asker.ask(ctx, Question{After: &after})
		out <- page{answer, err}
	})
	return out
}

// take checks a page and hands its records to fn.
func (p *paging) take(ctx context.Context, a *Answer) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := p.place(a.standing(), &p.chain); err != nil {
		return err
	}
	p.doubt.clear()
	for i := range a.Records {
		if err := p.record(&a.Records[i]); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	if a.Broken != nil {
		return a.Broken.error(p.chain.ns)
	}
	return nil
}

func (p *paging) record(r *AnswerRecord) error {
	rec, err := r.record()
	if err != nil {
		return malformed(p.chain.ns, r.Seq, err)
	}
	if p.verify {
		p.verify = false
		return p.chain.recognize(&rec)
	}
	hash, err := p.chain.admit(&rec)
	if err != nil {
		return err
	}
	if err := p.fn(rec); err != nil {
		return err
	}
	p.chain.advance(rec.Seq, hash)
	p.s.saw(rec.Seq, hash)
	if rec.Seq == p.until {
		return errDone
	}
	return nil
}

// hear takes news. It is called by the NATS client.
func (p *paging) hear(m *nats.Msg) {
	seq, err := strconv.ParseUint(string(m.Data), 10, 64)
	if err != nil {
		return
	}
	p.told.Store(seq) // the newest message, not the largest number: a wrong one must not outlive it
	select {
	case p.woken <- struct{}{}:
	default:
	}
}

// wait waits until there may be something new, and tells whether that is only what somebody said.
func (p *paging) wait(ctx context.Context, lost <-chan nats.Status) (hinted bool, err error) {
	idle := time.NewTimer(idleCheck)
	defer idle.Stop()
	for {
		head, noticed := p.s.noticedHead()
		if head > p.chain.seq {
			p.s.forget(head)
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-lost:
			return false, fmt.Errorf("%w: %w", errAgain, nats.ErrDisconnected)
		case <-idle.C:
			return false, nil
		case <-noticed:
		case <-p.woken:
			if p.told.Load() > p.chain.seq {
				return true, nil
			}
		}
	}
}
