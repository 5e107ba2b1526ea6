package integration_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/integration/harness"
)

// mostMemory is what a controller may have taken at its peak, whatever was sent to it. A Kubernetes limit is four times that.
const mostMemory = 256 << 20

// TestDeployedFloods sends as each role, at full speed, what costs most: messages that unpack to megabytes, questions,
// headers without end. The shipped NATS files and two controllers bear it: every command that an operator gives meanwhile
// is taken, nobody's office changes, memory stays bounded, and so does the log.
func TestDeployedFloods(t *testing.T) {
	t.Parallel()
	if harness.Race {
		t.Skip("the race detector takes a multiple of the memory that is measured")
	}
	d := startDeployed(t, "single.conf", 1, 1)
	leads, term := d.driver(t), d.term(t)
	text := strings.Repeat("a", 8_300_000)
	join := flooded(`{"id":"` + text + `"}`)
	subject := events.EdgeSubject("shop", "center", "center-1", "join")
	for _, f := range []struct {
		name, role, subject string
		body                []byte
		headers             int
		messages            int
		codes               []string // of all answers; nil: they may get lost
	}{
		{"packed joins on an edge's own subject", "edge-center", subject, join, 0, 500, []string{"too_large", "busy"}},
		{"joins with many headers", "edge-center", subject, []byte(`{}`), 20_000, 180, nil},
		{"exact IDs", "operator", "unitgate.api.shop.cutover.preview", flooded(`{"exact":{"unbj":[` + strings.Repeat(`"1",`, 2_000_000) + `"1"]}}`), 0, 500, []string{"too_large", "busy"}},
		{"units", "operator", "unitgate.api.shop.config.apply", flooded(`{"config":{"units":[` + strings.Repeat(`{"id":"a"},`, 700_000) + `{}]}}`), 0, 500, []string{"too_large", "busy"}},
		{"durable exact IDs", "operator", "unitgate.cmd.shop.cutover.preview", flooded(`{"exact":{"unbj":[` + strings.Repeat(`"1",`, 2_000_000) + `"1"]}}`), 0, 200, nil},
		{"large questions", "observer", "unitgate.api.shop.cutover.show", []byte(`{"data":{"cutover":"` + text[:60_000] + `"}}`), 0, 3000, nil},
		{"questions with many headers", "observer", "unitgate.api.shop.cutover.show", []byte(`{"data":{"cutover":"c1"}}`), 5000, 1000, nil},
		{"questions", "observer", "unitgate.api.shop.cutover.show", []byte(`{"data":{"cutover":"c1"}}`), 0, 20_000, nil},
	} {
		t.Run(f.name, func(t *testing.T) {
			flood := d.connect(t, f.role, nil)
			answers, err := flood.SubscribeSync(flood.NewInbox())
			if err != nil {
				t.Fatal(err)
			}
			m := &nats.Msg{Subject: f.subject, Reply: answers.Subject, Data: f.body, Header: nats.Header{}}
			for i := range f.headers {
				m.Header[fmt.Sprintf("%05x", i)] = []string{""}
			}
			sent := make(chan error, 1)
			go func() {
				for range f.messages {
					if err := flood.PublishMsg(m); err != nil {
						sent <- err
						return
					}
				}
				sent <- flood.Flush()
			}()
			flooding := true
			for n := 0; flooding || n < 5; n++ {
				select {
				case err := <-sent:
					if err != nil {
						t.Error(err)
					}
					flooding = false
				default:
				}
				d.put(t, n)
			}
			if f.codes != nil {
				d.answered(t, answers, f.messages, f.codes)
			}
			t.Logf("controllers have taken %d and %d MiB at their peaks", peak(t, d.controls[0].PID)>>20, peak(t, d.controls[1].PID)>>20)
		})
	}
	d.observerDoor(t, text)
	if now := d.driver(t); now != leads || d.term(t) != term {
		t.Errorf("the office has changed: term %d, it was %d", d.term(t), term)
	}
	for _, c := range d.controls {
		if n := peak(t, c.PID); n > mostMemory {
			t.Errorf("a controller has taken %d MiB", n>>20)
		} else {
			t.Logf("a controller has taken %d MiB", n>>20)
		}
		// Each connection's complaint is logged at most once a minute.
		if n := strings.Count(c.Stderr.String(), "slow consumer"); n > 4*5 {
			t.Errorf("%d lines of dropped messages in its log", n)
		}
	}
	d.Cutover(t, append([]string{"preview"}, toCenter...)...)
}

// flooded is a command whose data is packed.
func flooded(data string) []byte {
	return []byte(`{"actor":"flood","data":` + string(events.Pack([]byte(data))) + `}`)
}

// put gives a command as an operator's program does, which must be taken.
func (d *deployed) put(t *testing.T, n int) {
	t.Helper()
	nc := d.connect(t, "operator", nil)
	defer nc.Close()
	began := time.Now()
	body := fmt.Sprintf(`{"actor":"me","data":{"id":"unbj","name":"%d"}}`, n)
	for busy := true; busy; { // as one is told who has to come again
		m, err := nc.Request("unitgate.api.shop.unit.put", []byte(body), recovers)
		if err != nil || !bytes.Contains(m.Data, []byte(`"ok":true`)) && !bytes.Contains(m.Data, []byte(`"busy"`)) {
			t.Fatalf("a command while it floods: %v %+v after %v", err, m, time.Since(began))
		}
		busy = bytes.Contains(m.Data, []byte(`"busy"`))
	}
}

// answered wants answers with these codes only. What comes faster than a busy machine reads is dropped without one.
func (d *deployed) answered(t *testing.T, answers *nats.Subscription, n int, codes []string) {
	t.Helper()
	got, strange := map[string]int{}, 0
	for range n {
		m, err := answers.NextMsg(2 * time.Second)
		if err != nil {
			break
		}
		var o struct{ Error struct{ Code string } }
		if err := json.Unmarshal(m.Data, &o); err != nil {
			t.Fatal(err)
		}
		if got[o.Error.Code]++; !slices.Contains(codes, o.Error.Code) {
			strange++
		}
	}
	if strange != 0 || got[codes[0]] == 0 {
		t.Errorf("answered with %v, want %v", got, codes)
	}
	t.Logf("of %d messages: %v", n, got)
}

// observerDoor: what is larger than an observer ever needs does not come past NATS.
func (d *deployed) observerDoor(t *testing.T, text string) {
	t.Helper()
	nc := d.connect(t, "observer", nil)
	if err := nc.Publish("unitgate.api.shop.cutover.show", []byte(text[:100_000])); errors.Is(err, nats.ErrMaxPayload) {
		return // the server has told the library in time
	}
	harness.Eventually(t, recovers, "NATS refuses it", func() bool {
		return nc.LastError() != nil && strings.Contains(strings.ToLower(nc.LastError().Error()), "maximum payload") || nc.Flush() != nil
	})
}

// term is the office's, as the driver tells it.
func (d *deployed) term(t *testing.T) uint64 {
	t.Helper()
	var last uint64
	for line := range strings.Lines(d.as("observer").Run(t, "log", "--entity", "driver").OK(t).Stdout) {
		var e struct{ Data struct{ Term uint64 } }
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatal(err)
		}
		last = max(last, e.Data.Term)
	}
	return last
}

// peak is the most memory that a process has had at a time, in bytes.
func peak(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.Fields(rest)[0])
			if err != nil {
				t.Fatal(err)
			}
			return n << 10
		}
	}
	t.Fatal("the kernel does not tell")
	return 0
}
