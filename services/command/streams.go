package command

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go/jetstream"
)

// Subjects and streams of durable commands. The api's tree stays apart: where a stream and a service share a subject, a
// caller gets the stream's acknowledgement instead of the outcome.
const (
	QueuePrefix   = "unitgate.cmd"     // unitgate.cmd.<namespace>.<entity>.<verb>
	OutcomePrefix = "unitgate.outcome" // unitgate.outcome.<namespace>.<command id>

	QueueStream   = "UNITGATE_CMD"
	OutcomeStream = "UNITGATE_OUTCOME"
)

// Bounds of both streams. A server reserves a stream's bytes when it is created, so they are modest: commands are small.
const (
	keepFor       = 24 * time.Hour
	queueBytes    = 64 << 20
	outcomeBytes  = 256 << 20
	maxMessage    = 1 << 20 // of either stream, headers included; what a server takes by default
	maxUnanswered = 1024    // commands that all controllers together have under way or put back for later
)

const (
	metadataEpoch = "unitgate-epoch"
	streamWait    = 12 * time.Second // for making or changing a stream: replicas have to be placed
	askWait       = 3 * time.Second  // for one question to a stream
)

// ErrForeign: a stream of ours by name is none by its configuration.
var ErrForeign = errors.New("stream is not unitgate's")

// queueConfig: a command is in the stream until it is settled. New ones are refused when it is full, because a command
// that was acknowledged must not be dropped for another.
func queueConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: QueueStream, Description: "unitgate: durable commands that wait for their outcome",
		Subjects: []string{QueuePrefix + ".>"}, Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
		MaxAge: keepFor, MaxBytes: queueBytes, MaxMsgSize: maxMessage,
		Metadata: map[string]string{metadataEpoch: uuid.NewString()},
	}
}

// outcomeConfig: the newest outcome of each command id. When it is full the oldest go: a lack of room for outcomes must not
// stop commands. Without direct access every reader asks the leader, which a controller that decides by it needs.
func outcomeConfig(replicas int) jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: OutcomeStream, Description: "unitgate: what became of durable commands",
		Subjects: []string{OutcomePrefix + ".>"}, Storage: jetstream.FileStorage, Replicas: max(replicas, 1),
		Retention: jetstream.LimitsPolicy, Discard: jetstream.DiscardOld,
		MaxAge: keepFor, MaxBytes: outcomeBytes, MaxMsgSize: maxMessage, MaxMsgsPerSubject: 1,
	}
}

// consumerConfig: every controller pulls from the one consumer. A command that is not settled comes again, for as long as
// it is in the stream.
func consumerConfig(name string) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: name, Description: "unitgate: the controllers share the commands",
		AckPolicy: jetstream.AckExplicitPolicy, AckWait: ackWait, MaxDeliver: -1, MaxAckPending: maxUnanswered,
	}
}

// openStream makes a stream, or opens the one that is there. What an operator may tune (replicas, limits, placement) stays.
func openStream(ctx context.Context, js jetstream.JetStream, cfg jetstream.StreamConfig) (jetstream.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	st, err := js.Stream(ctx, cfg.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if _, err = js.CreateStream(ctx, cfg); err == nil || errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
			st, err = js.Stream(ctx, cfg.Name) // what counts is what the server holds
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open stream %s: %w", cfg.Name, err)
	}
	got := st.CachedInfo().Config
	if !slices.Equal(got.Subjects, cfg.Subjects) || got.Retention != cfg.Retention || got.Storage != cfg.Storage ||
		got.MaxMsgsPerSubject != cfg.MaxMsgsPerSubject && cfg.MaxMsgsPerSubject > 0 {
		return nil, fmt.Errorf("%w: %s has subjects %q, retention %v, storage %v: remove or rename it", ErrForeign, cfg.Name, got.Subjects, got.Retention, got.Storage)
	}
	return st, nil
}

// queue is the stream of commands as it was opened. Its consumer is named after the stream's epoch, so that a stream made
// anew under the same name can not be mistaken for it: the ids derived from its sequences would repeat.
type queue struct {
	js       jetstream.JetStream
	epoch    uuid.UUID
	consumer string
	outcomes jetstream.Stream
}

// openQueue makes what is missing of both streams and the consumer.
func openQueue(ctx context.Context, js jetstream.JetStream, replicas int) (*queue, error) {
	outcomes, err := openStream(ctx, js, outcomeConfig(replicas))
	if err != nil {
		return nil, err
	}
	st, err := openStream(ctx, js, queueConfig(replicas))
	if err != nil {
		return nil, err
	}
	q := &queue{js: js, outcomes: outcomes}
	if q.epoch, err = epochOf(st); err != nil {
		return nil, err
	}
	q.consumer = "controllers-" + q.epoch.String()
	ctx, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	if _, err = st.Consumer(ctx, q.consumer); errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = st.CreateConsumer(ctx, consumerConfig(q.consumer))
		if errors.Is(err, jetstream.ErrConsumerExists) {
			err = nil // another controller made it
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open consumer %s of stream %s: %w", q.consumer, QueueStream, err)
	}
	return q, q.verify(ctx)
}

// verify removes a consumer that ended up on a stream made anew meanwhile; the next opening makes the right one.
func (q *queue) verify(ctx context.Context) error {
	st, err := q.js.Stream(ctx, QueueStream)
	if err != nil {
		return fmt.Errorf("open stream %s: %w", QueueStream, err)
	}
	epoch, err := epochOf(st)
	if err != nil || epoch == q.epoch {
		return err
	}
	if err := st.DeleteConsumer(ctx, q.consumer); err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		return fmt.Errorf("remove a consumer of the former stream %s: %w", QueueStream, err)
	}
	return fmt.Errorf("stream %s was made anew while it was opened", QueueStream)
}

func epochOf(st jetstream.Stream) (uuid.UUID, error) {
	cfg := st.CachedInfo().Config
	epoch, err := uuid.Parse(cfg.Metadata[metadataEpoch])
	if err != nil {
		return epoch, fmt.Errorf("%w: %s has no epoch in its metadata (%s): remove it, and a controller makes it", ErrForeign, cfg.Name, metadataEpoch)
	}
	return epoch, nil
}

// DerivedID is the id of a durable command that has none of its own: UUIDv5 in the name space of the stream's epoch (its
// metadata "unitgate-epoch"), of the stream's name and the message's sequence. It is the same at every delivery.
func DerivedID(epoch uuid.UUID, seq uint64) string {
	return uuid.NewSHA1(epoch, fmt.Appendf(nil, "%s/%d", QueueStream, seq)).String()
}
