package dev

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/services/cutover"
)

// handOn gives back the offices that the process before this one held when it was killed, and makes this one known to
// the next. A successor must otherwise wait until the office key stood still for a whole term, because a holder that is
// silent may live. Here it cannot: whoever has the lock of the data directory knows that every process which wrote
// its incarnation there has ended. Any other holder, such as a control plane that was connected to this NATS from
// outside, may live, and its key is left alone.
//
// It stands in this package, which the control plane cannot import, because nowhere else is that known.
func (d *Dev) handOn(ctx context.Context) error {
	file := filepath.Join(d.data, "incarnation")
	before, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("data directory: %w", err)
	}
	if err := giveBack(ctx, d.js, string(before)); err != nil {
		d.o.Log.Warn("the office of the last run is not handed on, it will be taken after its term", "err", err)
	}
	d.key = cutover.NewKey()
	if err := os.WriteFile(file, []byte(cutover.Incarnation(d.key)), 0o600); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// giveBack writes what a holder that stops in order writes, to each key that a dead one held.
func giveBack(ctx context.Context, js jetstream.JetStream, dead string) error {
	kv, err := js.KeyValue(ctx, cutover.OfficeBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	namespaces, err := kv.Keys(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoKeysFound) {
		return err
	}
	for _, namespace := range namespaces {
		key, err := kv.Get(ctx, namespace)
		if err != nil {
			return err
		}
		var v cutover.OfficeValue
		if json.Unmarshal(key.Value(), &v) != nil || v.Holder == "" || v.Holder != dead {
			continue
		}
		vacant, err := json.Marshal(cutover.OfficeValue{Term: v.Term, Epoch: v.Epoch})
		if err != nil {
			return err
		}
		if _, err := kv.Update(ctx, namespace, vacant, key.Revision()); err != nil {
			return err
		}
	}
	return nil
}
