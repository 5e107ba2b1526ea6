package journal

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
)

// windowBytes bounds the newest records that Pages keeps: what readers at the head ask for.
const windowBytes = 4 << 20

// Pages answers the questions of readers from one journal. It keeps the newest records that anybody asked for, so that a
// thousand edges that miss the same event cost one look into the stream. Any number of goroutines may use it; one of them
// at a time asks the stream, whatever the others wait for.
type Pages struct {
	s    *Stream
	turn chan struct{} // one token: who holds it asks the stream, and owns the rest
	seen standing      // what the stream said last
	kept window
}

// standing is where a journal stands, as somebody said.
type standing struct {
	epoch    string
	head     uint64
	unproven error     // see proves
	asked    bool      // the control plane said it, not the stream's server
	began    time.Time // the question was sent then
}

// window holds records without a hole.
type window struct {
	records []events.Record
	bytes   int
}

// NewPages reads a journal for others.
func NewPages(s *Stream) *Pages { return &Pages{s: s, turn: make(chan struct{}, 1)} }

// Answer answers a question about the journal; Outcome is not among those.
func (p *Pages) Answer(ctx context.Context, q Question) Answer {
	a, err := p.answer(ctx, q)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, ErrNoJournal):
		return Answer{Error: &events.Error{Code: CodeUnknownNamespace, Message: "the namespace has no journal"}}
	case errors.Is(err, ErrInvalid):
		return Answer{Error: &events.Error{Code: CodeBadQuestion, Message: err.Error()}}
	case err != nil:
		return Answer{Error: &events.Error{Code: CodeUnavailable, Message: err.Error()}}
	}
	return a
}

func (p *Pages) answer(ctx context.Context, q Question) (Answer, error) {
	arrived := time.Now()
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return Answer{}, ctx.Err()
	}
	if q.Find != nil {
		rec, ok, err := p.s.Find(ctx, q.Find.Entity, q.Find.Verb, q.Find.ID)
		if err != nil || !ok {
			return Answer{Epoch: p.s.epoch}, err
		}
		return Answer{Epoch: p.s.epoch, Records: []AnswerRecord{answered(&rec)}}, nil
	}
	if q.After != nil {
		if a, ok := p.fromWindow(*q.After); ok {
			return a, nil
		}
	}
	if err := p.look(ctx, arrived); err != nil {
		return Answer{}, err
	}
	if q.After == nil || *q.After >= p.seen.head || p.seen.epoch != p.s.epoch {
		return p.stands(), nil
	}
	return p.fetch(ctx, *q.After)
}

// stands is an answer without records.
func (p *Pages) stands() Answer {
	a := Answer{Epoch: p.seen.epoch, Head: p.seen.head}
	if p.seen.unproven != nil {
		a.Unproven = p.seen.unproven.Error()
	}
	return a
}

// look asks where the stream stands, unless it was asked since the question arrived.
func (p *Pages) look(ctx context.Context, arrived time.Time) error {
	if p.seen.began.After(arrived) {
		return nil
	}
	seen := standing{began: time.Now()}
	info, err := p.s.info(ctx)
	if err != nil {
		return err
	}
	seen.epoch, seen.head, seen.unproven = info.Config.Metadata[metadataEpoch], info.State.LastSeq, proves(info)
	if p.seen = seen; seen.epoch != p.s.epoch || seen.head < p.kept.last() && seen.unproven == nil {
		p.kept = window{} // of another history
	}
	return nil
}

// fromWindow answers from what is kept, if that holds something after a sequence.
func (p *Pages) fromWindow(after uint64) (Answer, bool) {
	records := p.kept.after(after)
	if len(records) == 0 {
		return Answer{}, false
	}
	return p.page(records, nil), true
}

// page is the answer with as many records as it holds. broken is what comes after all of them.
func (p *Pages) page(records []events.Record, broken *BreakError) Answer {
	a := Answer{Epoch: p.s.epoch, Head: max(p.seen.head, p.kept.last())}
	bytes := 0
	for i := range records {
		r := answered(&records[i])
		if bytes += r.size(); i > 0 && bytes > answerBytes || i == pageRecords {
			return a
		}
		a.Records = append(a.Records, r)
	}
	if broken != nil {
		a.Broken = &AnswerBreak{broken.Seq, broken.Err.Error()}
	}
	return a
}

// fetch reads a page from the stream, and keeps it if it continues what is kept or ends later.
func (p *Pages) fetch(ctx context.Context, after uint64) (Answer, error) {
	records, err := p.s.batch(ctx, after+1)
	var broken *BreakError
	if err != nil && !errors.As(err, &broken) && !errors.Is(err, nats.ErrNoResponders) {
		return Answer{}, err
	}
	if len(records) == 0 && broken == nil { // a replica that lags, or direct access is turned off: the leader has it, or the next one
		rec, ok, err := p.s.get(ctx, messageQuery{Seq: after + 1, NextBySubject: eventSubjects + p.s.ns + ".>"})
		switch {
		case errors.As(err, &broken):
		case err != nil:
			return Answer{}, err
		case ok:
			records = append(records, rec)
		}
	}
	p.kept.add(records)
	return p.page(records, broken), nil
}

// batch reads records from a sequence on, as many as a page holds. Any replica answers, with what it has; a record that is
// missing in between is passed over, which the reader will notice. A message that is no record ends the batch with a
// BreakError.
func (s *Stream) batch(ctx context.Context, from uint64) (records []events.Record, err error) {
	body, err := json.Marshal(struct {
		Seq      uint64 `json:"seq"`
		Batch    int    `json:"batch"`
		MaxBytes int    `json:"max_bytes"`
	}{from, pageRecords, pageBytes})
	if err != nil {
		return nil, err
	}
	err = s.ask(ctx, requestTimeout, func(ctx context.Context) error {
		sub, err := s.conn().SubscribeSync(s.conn().NewInbox())
		if err != nil {
			return err
		}
		defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
		if err := s.conn().PublishRequest(s.api("DIRECT.GET"), sub.Subject, body); err != nil {
			return err
		}
		for {
			m, err := sub.NextMsgWithContext(ctx)
			if err != nil {
				return fmt.Errorf("read journal %s from %d: %w", s.name(), from, err)
			}
			if status := m.Header.Get("Status"); status != "" {
				return ended(status, m.Header.Get("Description"))
			}
			rec, err := s.decodeDirect(m)
			if err != nil {
				return err
			}
			records = append(records, rec)
		}
	})
	return records, err
}

// ended tells whether a batch ended as it should: 204 after the last message, 404 when there is none.
func ended(status, description string) error {
	if status == "204" || status == "404" {
		return nil
	}
	return fmt.Errorf("read the journal: %s %s", status, description)
}

// decodeDirect decodes a message that was read directly; its subject and sequence are in its headers.
func (s *Stream) decodeDirect(m *nats.Msg) (events.Record, error) {
	seq, err := strconv.ParseUint(added(m.Header, jetstream.SequenceHeader), 10, 64)
	if err != nil {
		return events.Record{}, fmt.Errorf("header %s: %w", jetstream.SequenceHeader, err)
	}
	rec, err := decode(s.ns, added(m.Header, jetstream.SubjectHeader), m.Header, m.Data, seq)
	if err != nil {
		return rec, &BreakError{Namespace: s.ns, Kind: BreakMalformed, Seq: seq, Err: err}
	}
	return rec, nil
}

// added is the value of a header that the server has added to a message: the last one. One of the same name may have been
// stored with it.
func added(h nats.Header, key string) string {
	v := h[key]
	if len(v) == 0 {
		return ""
	}
	return v[len(v)-1]
}

// last is the newest sequence that is kept; 0: none.
func (w *window) last() uint64 {
	if len(w.records) == 0 {
		return 0
	}
	return w.records[len(w.records)-1].Seq
}

// after are the records after a sequence, if the next one is kept.
func (w *window) after(seq uint64) []events.Record {
	if len(w.records) == 0 || seq+1 < w.records[0].Seq || seq >= w.last() {
		return nil
	}
	return w.records[seq+1-w.records[0].Seq:]
}

// add keeps records that continue the window, or begin another one that ends later.
func (w *window) add(records []events.Record) {
	for _, rec := range records {
		switch last := w.last(); {
		case last == 0 || rec.Seq > last+1:
			*w = window{}
		case rec.Seq <= last:
			continue
		}
		w.records = append(w.records, rec)
		w.bytes += weight(&rec)
	}
	for w.bytes > windowBytes {
		w.bytes -= weight(&w.records[0])
		w.records = w.records[1:]
	}
}

// weight is about what a record takes in memory, in bytes.
func weight(rec *events.Record) int { return 400 + len(rec.Data) + len(rec.Actor) + len(rec.Reason) }
