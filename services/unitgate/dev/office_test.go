package dev

import (
	"encoding/json"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/services/cutover"
)

// offices is a NATS server with an office bucket, or without any if there are no keys.
func offices(t *testing.T, keys map[string]string) (jetstream.JetStream, jetstream.KeyValue) {
	t.Helper()
	srv, err := server.NewServer(&server.Options{JetStream: true, StoreDir: t.TempDir(), DontListen: true, NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	srv.Start()
	t.Cleanup(func() { srv.Shutdown(); srv.WaitForShutdown() })
	if !srv.ReadyForConnections(10 * time.Second) {
		t.Fatal("NATS did not start")
	}
	nc, err := nats.Connect("", nats.InProcessServer(srv))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil || len(keys) == 0 {
		return js, nil
	}
	kv, err := js.CreateKeyValue(t.Context(), jetstream.KeyValueConfig{Bucket: cutover.OfficeBucket, History: 1})
	if err != nil {
		t.Fatal(err)
	}
	for namespace, value := range keys {
		if _, err := kv.PutString(t.Context(), namespace, value); err != nil {
			t.Fatal(err)
		}
	}
	return js, kv
}

func (d *Dev) mustHandOn(t *testing.T) {
	t.Helper()
	if err := d.handOn(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// Only what the killed process held is given back: a holder of another incarnation may live.
func TestOfficeIsHandedOnFromTheDeadOnly(t *testing.T) {
	js, _ := offices(t, nil)
	data, log := t.TempDir(), slog.New(slog.DiscardHandler)
	first := &Dev{o: Options{Log: log}, data: data, js: js}
	first.mustHandOn(t) // no bucket yet
	mine := `{"holder":"` + cutover.Incarnation(first.key) + `","term":7}`

	keys := map[string]string{"held": mine, "too": mine, "foreign": `{"holder":"somebody","term":3}`, "vacant": `{"holder":"","term":4}`, "broken": "x"}
	js, kv := offices(t, keys)
	second := &Dev{o: Options{Log: log}, data: data, js: js}
	second.mustHandOn(t)
	if cutover.Incarnation(second.key) == cutover.Incarnation(first.key) {
		t.Errorf("incarnation %q after %q", cutover.Incarnation(second.key), cutover.Incarnation(first.key))
	}
	keys["held"], keys["too"] = `{"holder":"","term":7}`, `{"holder":"","term":7}` // a successor's term is above it
	for namespace, want := range keys {
		got, err := kv.Get(t.Context(), namespace)
		if err != nil || string(got.Value()) != want {
			t.Errorf("%s holds %s, %v, want %s", namespace, got.Value(), err, want)
		}
	}
}

// A running dev holds its office under the incarnation that it left in the data directory.
func TestOfficeIsHeldUnderTheIncarnation(t *testing.T) {
	d, err := Start(t.Context(), Options{Data: t.TempDir(), FreePorts: true, Edges: 1, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	kv, err := d.js.KeyValue(t.Context(), cutover.OfficeBucket)
	if err != nil {
		t.Fatal(err)
	}
	key, err := kv.Get(t.Context(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	var v cutover.OfficeValue
	if err := json.Unmarshal(key.Value(), &v); err != nil || v.Holder != cutover.Incarnation(d.key) {
		t.Errorf("the office is %s, this is %q", key.Value(), cutover.Incarnation(d.key))
	}
}
