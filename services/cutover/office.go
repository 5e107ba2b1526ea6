package cutover

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
)

// OfficeBucket is the KV bucket that holds one key for each namespace: who drives its cutovers (R1).
const OfficeBucket = "UNITGATE_OFFICE"

// officeBytes are enough for a key of a thousand namespaces and their proofs, for accounts that demand a bound.
const officeBytes = 8 << 20

// officeWait bounds one request about the key: two fit into a term.
const officeWait = time.Second

// openOffice opens the bucket, and makes it if nobody has. It has no TTL: an office ends by its clock rules, never
// because a server dropped a key.
func openOffice(ctx context.Context, js jetstream.JetStream, replicas int) (jetstream.KeyValue, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	kv, err := js.KeyValue(ctx, OfficeBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		err = journal.Bounded(officeBytes, func(maxBytes int64) error {
			_, err := js.CreateKeyValue(ctx, jetstream.KeyValueConfig{
				Bucket: OfficeBucket, Description: "unitgate: who drives the cutovers of a namespace", History: 1,
				MaxValueSize: 1024, MaxBytes: maxBytes, Replicas: max(1, replicas), Storage: jetstream.FileStorage,
			})
			return err
		})
		if err == nil || errors.Is(err, jetstream.ErrBucketExists) {
			kv, err = js.KeyValue(ctx, OfficeBucket)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", OfficeBucket, err)
	}
	return kv, nil
}

// readOffice reads a namespace's key. A replica that lags may answer: the compare-and-set of the write that follows
// makes that harmless.
func readOffice(ctx context.Context, kv jetstream.KeyValue, namespace string) (OfficeKey, error) {
	ctx, cancel := context.WithTimeout(ctx, officeWait)
	defer cancel()
	e, err := kv.Get(ctx, namespace)
	if errors.Is(err, jetstream.ErrKeyNotFound) || errors.Is(err, jetstream.ErrKeyDeleted) {
		return OfficeKey{}, nil
	}
	if err != nil {
		return OfficeKey{}, fmt.Errorf("read the office of %s: %w", namespace, err)
	}
	k := OfficeKey{Revision: e.Revision()}
	if err := json.Unmarshal(e.Value(), &k.OfficeValue); err != nil {
		// Whoever wrote this may hold the office: it must stand for as long as a proper value.
		k.OfficeValue = OfficeValue{Holder: "unreadable"}
	}
	return k, nil
}

// writeOffice stores a value if the key is at the expected revision (0: if there is none).
func writeOffice(ctx context.Context, kv jetstream.KeyValue, namespace string, w WriteOffice) (uint64, Fate, error) {
	ctx, cancel := context.WithTimeout(ctx, officeWait)
	defer cancel()
	b, err := json.Marshal(w.Value)
	if err != nil {
		return 0, Refused, err
	}
	var rev uint64
	if w.Expect == 0 {
		rev, err = kv.Create(ctx, namespace, b)
	} else {
		rev, err = kv.Update(ctx, namespace, b, w.Expect)
	}
	var api *jetstream.APIError
	switch {
	case err == nil:
		return rev, Accepted, nil
	case errors.Is(err, jetstream.ErrKeyExists), errors.As(err, &api) && conflict(api):
		return 0, Refused, nil
	default: // also when the server refused it for another reason: reading the key again is all that follows
		return 0, Unknown, fmt.Errorf("write the office of %s: %w", namespace, err)
	}
}

// conflict reports whether the key was not at the expected revision. The second code is what a replicated stream
// answers while another write is under way.
func conflict(e *jetstream.APIError) bool {
	return e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || e.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequenceConstant
}

// NewKey is a fresh key of a process, see Config.
func NewKey() ed25519.PrivateKey {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails, see crypto/rand
	return ed25519.NewKeyFromSeed(seed)
}

// Incarnation is under which name the process with this key holds the office: nobody else can
// sign in that name, and readers see by it that this version signs its grants.
func Incarnation(key ed25519.PrivateKey) string { return events.Fingerprint(publicHalf(key)) }

func publicHalf(key ed25519.PrivateKey) string {
	return hex.EncodeToString(key.Public().(ed25519.PublicKey))
}
