package journal

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
)

// Schema is the version of the stream's wire format, kept in its metadata. (A record's own Schema is that of its Data.)
const Schema = 1

const (
	streamPrefix   = "UNITGATE_"
	metadataEpoch  = "unitgate-epoch"
	metadataSchema = "unitgate-schema"

	// requestTimeout bounds one question to the JetStream API. A denied request is never answered: without a bound it
	// would look like a slow server for ever.
	requestTimeout = 3 * time.Second
)

// namespaceForm is CONTRACT's form of ids; it is also safe in stream names and subjects.
var namespaceForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// Options of a new journal.
type Options struct {
	Replicas int   // copies of the stream, 1 to 5; 0 counts as 1; production wants 3
	MaxBytes int64 // what a journal may hold before it takes no more; 0: no bound, unless the account demands one
	Fewer    bool  // one copy where there are not as many servers
}

// Stream is a journal on JetStream: one stream, file storage, deletes and purges denied. A handle belongs to the epoch
// that it was opened with; Follow tells when the stream was created anew, then open it again.
type Stream struct {
	js        jetstream.JetStream
	ns, epoch string
	asker     *asker // nil: only the stream itself is read
	direct    door   // the stream itself
	telling   door   // news

	mu      sync.Mutex    // guards the rest
	tip     Cursor        // newest record that this handle has seen with its hash: saves Append a look at its predecessor
	noticed uint64        // newest sequence that Notice was told of and nobody has looked for
	news    chan struct{} // closed when noticed grows; nil: nobody waits
	trouble error         // why the last session of a reading ended before its time; nil: something has come since
}

var _ Journal = (*Stream)(nil)

// Create makes the journal of a namespace, or opens the one that is there. Any number may do so at once: one creates,
// the others open.
func Create(ctx context.Context, js jetstream.JetStream, ns string, opts Options) (*Stream, error) {
	if err := checkNamespace(ns); err != nil {
		return nil, err
	}
	s, err := Open(ctx, js, ns)
	if !errors.Is(err, ErrNoJournal) {
		return s, err
	}
	rctx, cancel := context.WithTimeout(ctx, 4*requestTimeout) // placing replicas takes longer than a look
	defer cancel()
	cfg := streamConfig(ns, uuid.NewString(), max(opts.Replicas, 1))
	create := func(maxBytes int64) error {
		cfg.MaxBytes = max(opts.MaxBytes, maxBytes)
		_, err := js.CreateStream(rctx, cfg)
		return err
	}
	if err := Bounded(journalBytes, create); err != nil && !errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return nil, fmt.Errorf("create journal %s: %w", cfg.Name, explain(rctx, js, cfg, err))
	}
	return Open(ctx, js, ns) // also after a creation of ours: what counts is what the server holds
}

// Open opens the journal of a namespace: ErrNoJournal when there is none, ErrForeign when the stream is not one.
func Open(ctx context.Context, js jetstream.JetStream, ns string) (*Stream, error) {
	if err := checkNamespace(ns); err != nil {
		return nil, err
	}
	s := &Stream{js: js, ns: ns}
	info, err := s.info(ctx)
	if err != nil {
		return nil, s.opening(err)
	}
	if err := checkConfig(ns, info.Config); err != nil {
		return nil, err
	}
	s.epoch = info.Config.Metadata[metadataEpoch]
	return s, nil
}

// OpenAsking opens the journal of a namespace for a reader that asks the control plane on a subject, and reads the stream
// itself only where no control plane answers: one of before, or none. The errors are those of Open, and ErrNoReader.
func OpenAsking(ctx context.Context, js jetstream.JetStream, ns, subject string) (*Stream, error) {
	if err := checkNamespace(ns); err != nil {
		return nil, err
	}
	s := &Stream{js: js, ns: ns, asker: &asker{nc: js.Conn(), subject: subject}}
	st, err := s.standing(ctx)
	if err != nil {
		return nil, s.opening(err)
	}
	if !st.asked { // the control plane has looked, the server has not
		read, err := Open(ctx, js, ns)
		if err != nil {
			return nil, err
		}
		st.epoch = read.epoch
	}
	s.epoch = st.epoch
	return s, nil
}

func (s *Stream) opening(err error) error {
	if errors.Is(err, jetstream.ErrStreamNotFound) || errors.Is(err, ErrNoJournal) {
		return fmt.Errorf("namespace %q: %w", s.ns, ErrNoJournal)
	}
	return fmt.Errorf("open journal %s: %w", s.name(), err)
}

// Trouble is why readings of this handle get on slowly or not at all; nil: for no reason that is known. They go on trying.
func (s *Stream) Trouble() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.trouble
}

func (s *Stream) troubled(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trouble = err
}

// Namespace implements [Journal].
func (s *Stream) Namespace() string { return s.ns }

// Epoch implements [Journal].
func (s *Stream) Epoch() string { return s.epoch }

// Head implements [Journal].
func (s *Stream) Head(ctx context.Context) (uint64, error) {
	st, err := s.standing(ctx)
	if err != nil {
		return 0, fmt.Errorf("head of journal %s: %w", s.name(), err)
	}
	if st.epoch != s.epoch {
		return 0, &BreakError{Namespace: s.ns, Kind: BreakEpoch, Want: s.epoch, Got: st.epoch}
	}
	return st.head, nil
}

// standing tells where the journal stands; ErrNoJournal when it is gone.
func (s *Stream) standing(ctx context.Context) (st standing, err error) {
	if done, err := s.asking(ctx, func() (err error) {
		st, err = s.asker.standing(ctx)
		return err
	}); done {
		return st, err
	}
	info, err := s.info(ctx)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return st, ErrNoJournal
	case err != nil:
		return st, s.barred(err)
	}
	return standing{epoch: info.Config.Metadata[metadataEpoch], head: info.State.LastSeq, unproven: proves(info)}, nil
}

// bySequence is one record; not ok: there is none.
func (s *Stream) bySequence(ctx context.Context, seq uint64) (rec events.Record, ok bool, err error) {
	if done, err := s.asking(ctx, func() (err error) {
		rec, ok, err = s.asker.record(ctx, s.ns, seq)
		return err
	}); done {
		return rec, ok, err
	}
	return s.get(ctx, messageQuery{Seq: seq})
}

// asking asks the control plane, if this handle does that. It is not done when the stream itself is worth a try.
func (s *Stream) asking(ctx context.Context, question func() error) (done bool, err error) {
	if s.asker == nil {
		return false, nil
	}
	switch err = question(); {
	case !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, errBarred) || ctx.Err() != nil:
		return true, err
	case s.asker.recent() || !s.direct.open(): // a control plane that has just answered comes back
		return true, fmt.Errorf("%w: %w", ErrNoReader, err)
	}
	return false, nil
}

// barred tells whether the stream could not be read because this user may not.
func (s *Stream) barred(err error) error {
	if s.asker == nil {
		return err
	}
	if s.direct.shut(s.conn(), apiPrefix(s.js)) {
		return fmt.Errorf("%w: %w", ErrNoReader, err)
	}
	return err
}

func (s *Stream) name() string { return streamPrefix + s.ns }

// info asks for the stream's configuration and state.
func (s *Stream) info(ctx context.Context) (info *jetstream.StreamInfo, err error) {
	err = s.ask(ctx, requestTimeout, func(ctx context.Context) error {
		st, err := s.js.Stream(ctx, s.name())
		if err == nil {
			info = st.CachedInfo()
		}
		return err
	})
	return info, err
}

// ask makes one request in bounded time. It also ends when the connection is lost, because the answer is then lost too: a
// follower whose server restarts would else wait for it long after the server is back.
func (s *Stream) ask(ctx context.Context, timeout time.Duration, request func(context.Context) error) error {
	rctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	lost := s.conn().StatusChanged(nats.RECONNECTING, nats.CLOSED)
	defer s.conn().RemoveStatusListener(lost)
	go func() {
		select {
		case <-lost:
			cancel()
		case <-rctx.Done():
		}
	}()
	err := request(rctx)
	if errors.Is(err, context.Canceled) && ctx.Err() == nil {
		return nats.ErrDisconnected
	}
	return err
}

// api is the subject of a JetStream API call about this stream.
func (s *Stream) api(call string) string { return apiPrefix(s.js) + call + "." + s.name() }

// apiPrefix is what the subjects of JetStream's API begin with in the handle's domain.
func apiPrefix(js jetstream.JetStream) string {
	o := js.Options()
	switch {
	case o.APIPrefix != "":
		return strings.TrimSuffix(o.APIPrefix, ".") + "."
	case o.Domain != "":
		return "$JS." + o.Domain + ".API."
	}
	return "$JS.API."
}

func (s *Stream) conn() *nats.Conn { return s.js.Conn() }

func checkNamespace(ns string) error {
	if !namespaceForm.MatchString(ns) {
		return fmt.Errorf("%w: namespace %q: want %s", ErrInvalid, ns, namespaceForm)
	}
	return nil
}

// streamConfig is the configuration of a new journal. No limit of age or count, and none of size that drops: what is stored stays. No roll-up,
// no TTL and no deletes, because each would make a hole. Direct access serves readers from any replica.
func streamConfig(ns, epoch string, replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name:        streamPrefix + ns,
		Description: "unitgate: the events of namespace " + ns,
		Subjects:    []string{eventSubjects + ns + ".>"},
		Storage:     jetstream.FileStorage,
		Discard:     jetstream.DiscardNew, // with a bound, which an account may demand, what is stored stays as well
		Replicas:    replicas,
		DenyDelete:  true,
		DenyPurge:   true,
		AllowDirect: true,
		RePublish:   &jetstream.RePublish{Source: eventSubjects + ns + ".>", Destination: liveSubjects + ns + ".>"},
		Metadata:    map[string]string{metadataEpoch: epoch, metadataSchema: strconv.Itoa(Schema)},
	}
}

// checkConfig tells whether a stream keeps a journal's promises. What an operator may tune (replicas, placement,
// compression, republishing, a bound at which nothing new is taken) is not looked at.
func checkConfig(ns string, c jetstream.StreamConfig) error {
	want := eventSubjects + ns + ".>"
	foreign := func(format string, args ...any) error {
		return fmt.Errorf("stream %s: %w: %s", c.Name, ErrForeign, fmt.Sprintf(format, args...))
	}
	switch {
	case c.Metadata[metadataEpoch] == "":
		return foreign("no metadata %q", metadataEpoch)
	case c.Metadata[metadataSchema] != strconv.Itoa(Schema):
		return foreign("metadata %q is %q, this program knows %d", metadataSchema, c.Metadata[metadataSchema], Schema)
	case !slices.Equal(c.Subjects, []string{want}):
		return foreign("subjects are %q, want %q", c.Subjects, want)
	case c.Mirror != nil || len(c.Sources) > 0 || c.SubjectTransform != nil:
		return foreign("it mirrors, sources or transforms")
	case c.Storage != jetstream.FileStorage || c.Retention != jetstream.LimitsPolicy:
		return foreign("storage is %v and retention %v, want file and limits", c.Storage, c.Retention)
	case c.MaxAge > 0 || c.MaxMsgsPerSubject > 0 || c.Discard != jetstream.DiscardNew && (c.MaxMsgs > 0 || c.MaxBytes > 0):
		return foreign("it has limits, after which events would be dropped: set discard to new, max age and max messages per subject to none")
	case !c.DenyDelete || !c.DenyPurge || c.AllowRollup || c.AllowMsgTTL:
		return foreign("it allows deletes, purges, roll-ups or TTLs")
	}
	return nil
}
