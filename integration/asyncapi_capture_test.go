package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/unitgate/unitgate/events"
)

// document is events/asyncapi.json, with its messages' schemas ready to be held against real ones.
type document struct {
	addresses map[string]*regexp.Regexp // by channel
	messages  map[string][]string       // by channel: names of components
	headers   map[string]*jsonschema.Schema
	payloads  map[string]*jsonschema.Schema
}

// internal are the subjects on which processes of ours talk to each other; none of it is in the document.
var internal = regexp.MustCompile(`^unitgate\.(edge|beacon|journal|news|namespaces)(\.|$)`)

var placeholder = regexp.MustCompile(`\\\{[a-zA-Z]+\\\}`)

// readDocument closes every object first: a key that a reader would let pass must not be missing in the document.
func readDocument(t *testing.T) *document {
	t.Helper()
	text, err := os.ReadFile("../events/asyncapi.json")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.AssertFormat()
	closeObjects(doc.(map[string]any)["components"])
	const name = "http://unitgate.test/asyncapi.json"
	if err := c.AddResource(name, doc); err != nil {
		t.Fatal(err)
	}
	var parts struct {
		Channels map[string]struct {
			Address  string
			Messages map[string]json.RawMessage
		}
		Components struct{ Messages map[string]json.RawMessage }
	}
	if err := json.Unmarshal(text, &parts); err != nil {
		t.Fatal(err)
	}
	d := &document{map[string]*regexp.Regexp{}, map[string][]string{}, map[string]*jsonschema.Schema{}, map[string]*jsonschema.Schema{}}
	for channel, ch := range parts.Channels {
		if ch.Address != "" {
			d.addresses[channel] = regexp.MustCompile("^" + placeholder.ReplaceAllString(regexp.QuoteMeta(ch.Address), "[^.]+") + "$")
		}
		d.messages[channel] = slices.Sorted(maps.Keys(ch.Messages))
	}
	for m := range parts.Components.Messages {
		for part, into := range map[string]map[string]*jsonschema.Schema{"headers": d.headers, "payload": d.payloads} {
			if into[m], err = c.Compile(name + "#/components/messages/" + m + "/" + part); err != nil {
				t.Fatal(err)
			}
		}
	}
	return d
}

// closeObjects forbids keys that are not named, in every schema below v that names some.
func closeObjects(v any) {
	switch v := v.(type) {
	case map[string]any:
		_, named := v["properties"].(map[string]any)
		if _, open := v["additionalProperties"]; named && !open && v["payload"] == nil {
			v["additionalProperties"] = false
		}
		for _, w := range v {
			closeObjects(w)
		}
	case []any:
		for _, w := range v {
			closeObjects(w)
		}
	}
}

// channelOf is the channel of a subject.
func (d *document) channelOf(subject string) (string, error) {
	var found []string
	for channel, form := range d.addresses {
		if form.MatchString(subject) {
			found = append(found, channel)
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("%s belongs to the channels %q, want one", subject, found)
	}
	return found[0], nil
}

// check holds a message against those that may come on a channel: exactly one of them it must be.
func (d *document) check(m *nats.Msg, candidates []string) error {
	payload, err := jsonschema.UnmarshalJSON(bytes.NewReader(m.Data))
	if err != nil {
		return err
	}
	header := map[string]any{}
	for k, v := range m.Header {
		if len(v) != 1 {
			return fmt.Errorf("header %s has %d values", k, len(v))
		}
		header[k] = v[0]
	}
	var why []error
	fits := 0
	for _, name := range candidates {
		err := d.headers[name].Validate(header)
		if err == nil {
			err = d.payloads[name].Validate(payload)
		}
		if err == nil {
			fits++
		} else {
			why = append(why, fmt.Errorf("%s: %w", name, err))
		}
	}
	switch {
	case fits == 1:
		return nil
	case len(why) > 2: // of many outcomes: the one that is meant would stand out
		return fmt.Errorf("%d of the %d messages of the channel fit", fits, len(candidates))
	}
	return fmt.Errorf("%d of the messages of the channel fit: %v", fits, why)
}

// capture keeps every message on unitgate's subjects, and the replies that it is told of. It must not listen on inboxes:
// a server takes that for the interest of whoever asked there, and hands commands to controllers that are gone.
type capture struct {
	mu       sync.Mutex
	messages []*nats.Msg
	replies  map[string][]*nats.Msg // by entity.verb
	arrived  chan struct{}          // 1 deep: something came
}

func startCapture(t *testing.T, url string) *capture {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	c := &capture{replies: map[string][]*nats.Msg{}, arrived: make(chan struct{}, 1)}
	sub, err := nc.Subscribe("unitgate.>", c.take)
	if err == nil {
		err = sub.SetPendingLimits(-1, -1)
	}
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *capture) take(m *nats.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.messages = append(c.messages, m)
	select {
	case c.arrived <- struct{}{}:
	default:
	}
}

func (c *capture) replied(name string, m *nats.Msg) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.replies[name] = append(c.replies[name], m)
}

// await returns once an event of this entity and verb was seen, n times.
func (c *capture) await(t *testing.T, event string, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for {
		if c.count("unitgate.live.async."+event+".") >= n {
			return
		}
		select {
		case <-c.arrived:
		case <-ctx.Done():
			t.Fatalf("no %s: %v", event, ctx.Err())
		}
	}
}

func (c *capture) count(prefix string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := 0
	for _, m := range c.messages {
		if strings.HasPrefix(m.Subject, prefix) {
			n++
		}
	}
	return n
}

// verify holds everything that was seen against the document, and wants everything of the catalogue to have been seen, but
// for some entities.
func (c *capture) verify(t *testing.T, d *document, without ...string) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, wrong := map[string]int{}, map[string]int{}
	tell := func(what string, m *nats.Msg, err error) {
		seen[what]++
		if err != nil {
			if wrong[what]++; wrong[what] <= 2 {
				t.Errorf("%s: %v\n%v\n%s", what, err, m.Header, m.Data)
			}
		}
	}
	for _, m := range c.messages {
		if internal.MatchString(m.Subject) {
			continue
		}
		channel, err := d.channelOf(m.Subject)
		if err == nil {
			err = d.check(m, d.messages[channel])
		}
		if channel == "outcome" {
			var o struct{ Entity, Verb string }
			err = errors.Join(err, json.Unmarshal(m.Data, &o))
			channel = "outcome." + o.Entity + "." + o.Verb
		}
		tell(channel, m, err)
	}
	for name, replies := range c.replies {
		for _, m := range replies {
			tell("reply."+name, m, d.check(m, []string{"reply." + name}))
		}
	}
	for _, e := range events.Catalogue() {
		if slices.Contains(without, e.Entity) {
			continue
		}
		name := e.Entity + "." + e.Verb
		want := []string{"evt." + e.Entity + "." + e.Past, "live." + e.Entity + "." + e.Past}
		if !e.Internal {
			want = append(want, "api."+name, "reply."+name, "cmd."+name, "outcome."+name)
		}
		for _, w := range want {
			if seen[w] == 0 {
				t.Errorf("never seen: %s; let walkEverything bring it about", w)
			}
		}
	}
	t.Logf("%d messages of %d kinds", len(c.messages), len(seen))
}
