package command_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
)

// edgeKeys are the n-th edge's.
func edgeKeys(t *testing.T, n int) (ed25519.PrivateKey, string) {
	t.Helper()
	for i := 0; ; i++ {
		seed := sha256.Sum256(fmt.Appendf(nil, "%d %d", n, i))
		if signer, agree, err := events.DeriveKeys(seed[:]); err == nil {
			return signer, hex.EncodeToString(agree.PublicKey().Bytes())
		}
	}
}

// serveShop has two units with a cluster each.
func serveShop(t *testing.T) *nats.Conn {
	t.Helper()
	nc, _ := serve(t)
	o, _ := ask(t, nc, "unitgate.api.shop.config.apply", `{"actor":"me","data":{"base":0,"config":{"namespace":"shop","unitTypes":[{"name":"unit_type","slots":100}],
		"units":[{"id":"center","center":true},{"id":"unbj"}],"clusters":[{"id":"ws-hz-2","unit":"center"},{"id":"ws-bj-2","unit":"unbj"}]}}}`)
	if !o.OK {
		t.Fatal(o.Error)
	}
	return nc
}

// Commands about an edge on its own subject: who may give them, until when, and how large.
func TestCommandsOfEdges(t *testing.T) {
	nc := serveShop(t)
	signer, key := edgeKeys(t, 1)
	stranger, _ := edgeKeys(t, 2)
	subject := func(unit, id, verb string) string { return events.EdgeSubject("shop", unit, id, verb) }
	join := events.JoinEdge{ID: "hz-7", Directory: events.Fingerprint(key), Unit: "center", Cluster: "ws-hz-2", Address: "127.0.0.1:7177", Key: key}
	leave := events.LeaveEdge{ID: "hz-7", Directory: join.Directory}
	in := func(d time.Duration) string { return time.Now().Add(d).UTC().Format(time.RFC3339) }
	soon := in(time.Minute)
	one := uuid.NewString()
	for _, tt := range []struct {
		name, subject, expires, id string
		by                         ed25519.PrivateKey
		data                       any
		code                       string
	}{
		{"unsigned", subject("center", "hz-7", "join"), "", "", nil, join, "bad_signature"},
		{"by a stranger", subject("center", "hz-7", "join"), soon, "", stranger, join, "bad_signature"},
		{"no expiry", subject("center", "hz-7", "join"), "", "", signer, join, "bad_value"},
		{"expired", subject("center", "hz-7", "join"), in(-time.Minute), "", signer, join, "expired"},
		{"good for years", subject("center", "hz-7", "join"), in(24 * time.Hour), "", signer, join, "bad_value"},
		{"on another unit's subject", subject("unbj", "hz-7", "join"), soon, "", signer, join, "wrong_subject"},
		{"on another edge's subject", subject("center", "hz-8", "join"), soon, "", signer, join, "wrong_subject"},
		{"too large", subject("center", "hz-8", "join"), soon, "", signer, map[string]string{"id": strings.Repeat("x", 4096)}, "too_large"},
		{"packed", subject("center", "hz-8", "join"), soon, "", signer, map[string]string{"packed": "q1bKTFGyUlAqyS/PTVXSUVBKLEmEiZQnlqcWKVkpGSrVAgA="}, "packed"},
		{"its own", subject("center", "hz-7", "join"), soon, one, signer, join, ""},
		{"once more", subject("center", "hz-7", "join"), soon, one, signer, join, ""},
		{"leaves on another unit's subject", subject("unbj", "hz-7", "leave"), soon, "", signer, leave, "wrong_subject"},
		{"leave, unsigned, on the api", "unitgate.api.shop.edge.leave", "", "", nil, leave, "bad_signature"},
		{"leave by a stranger on the api", "unitgate.api.shop.edge.leave", soon, "", stranger, leave, "bad_signature"},
		{"leaves", subject("center", "hz-7", "leave"), soon, "", signer, leave, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.id == "" {
				tt.id = uuid.NewString()
			}
			body, err := json.Marshal(map[string]any{"id": tt.id, "actor": "edge/hz-7", "data": tt.data})
			if err != nil {
				t.Fatal(err)
			}
			m := &nats.Msg{Subject: tt.subject, Data: body}
			if tt.by != nil {
				m.Header = events.SignedHeaders(tt.by, tt.subject, tt.expires, body)
			}
			if o := askEdge(t, nc, m); tt.code == "" && !o.OK || tt.code != "" && (o.OK || o.Error.Code != tt.code && o.Error.Field != tt.code) {
				t.Errorf("%+v %v, want %q", o, o.Error, tt.code)
			}
			if m.Header != nil && tt.code == "" { // altered on the way
				m.Data = []byte(strings.Replace(string(body), "hz-7", "hz-6", 1))
				if o := askEdge(t, nc, m); o.OK || o.Error.Code != "bad_signature" {
					t.Errorf("altered: %+v", o)
				}
			}
		})
	}
}

// askEdge sends a message until it is not refused for want of time.
func askEdge(t *testing.T, nc *nats.Conn, m *nats.Msg) (o command.Outcome) {
	t.Helper()
	for {
		answer, err := nc.RequestMsg(m, 10*time.Second)
		if err == nil {
			err = json.Unmarshal(answer.Data, &o)
		}
		if err != nil {
			t.Fatal(err)
		}
		if o.OK || o.Error.Code != "busy" {
			return o
		}
	}
}

// One edge that asks without a pause is told so, and keeps no other edge waiting.
func TestEdgeThatAsksTooOften(t *testing.T) {
	nc := serveShop(t)
	signer, key := edgeKeys(t, 3)
	busy := 0
	for i := range 200 {
		if i == 150 {
			join := events.JoinEdge{ID: "hz-9", Directory: events.Fingerprint(key), Unit: "center", Cluster: "ws-hz-2", Address: "127.0.0.1:7179", Key: key}
			subject := events.EdgeSubject("shop", "center", "hz-9", "join")
			body, _ := json.Marshal(map[string]any{"id": uuid.NewString(), "actor": "edge/hz-9", "data": join})
			m := &nats.Msg{Subject: subject, Data: body, Header: events.SignedHeaders(signer, subject, time.Now().Add(time.Minute).UTC().Format(time.RFC3339), body)}
			answer, err := nc.RequestMsg(m, 10*time.Second)
			if err != nil || !strings.Contains(string(answer.Data), `"ok":true`) {
				t.Fatalf("another edge meanwhile: %s, %v", answer.Data, err)
			}
		}
		answer, err := nc.Request(events.EdgeSubject("shop", "center", "hz-8", "join"), []byte(`{"data":{"id":"hz-8"}}`), 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(answer.Data), `"busy"`) {
			busy++
		}
	}
	if busy < 100 {
		t.Errorf("%d of 200 refused", busy)
	}
}
