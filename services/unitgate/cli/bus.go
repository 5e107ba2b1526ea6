package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/unitgate/unitgate/events"
	natsbus "github.com/unitgate/unitgate/events/bus"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

const (
	connectWait = 5 * time.Second
	commandWait = 40 * time.Second // longer than the control plane takes, prechecks included
)

// bus is a command's connection to the system.
type bus struct {
	c  *cli
	nc *nats.Conn
	js jetstream.JetStream

	denied chan error // gets the first refusal of a command by the NATS server's permissions
}

// complain takes what the server says outside of any answer: that is where a request is denied, and nowhere else.
func (b *bus) complain(_ *nats.Conn, _ *nats.Subscription, err error) {
	if errors.Is(err, nats.ErrPermissionViolation) && strings.Contains(err.Error(), `"$JS.API.`) {
		return // a stream that this user may not read itself: whoever reads it says what that means
	}
	fmt.Fprintf(b.c.err, "unitgate: nats: %v\n", err)
	if !errors.Is(err, nats.ErrPermissionViolation) || !strings.Contains(err.Error(), `"`+command.Prefix+".") {
		return // not being allowed to look into the journal, say, keeps nobody from giving a command
	}
	select {
	case b.denied <- err:
	default:
	}
}

// natsAuth are the options that say who we are and whom we trust.
func (c *cli) natsAuth() []nats.Option {
	o := slices.Clone(c.auth)
	if c.tlsCA != "" {
		o = append(o, nats.RootCAs(c.tlsCA))
	}
	return o
}

// connect connects for one command; the caller closes it.
func (c *cli) connect() (*bus, error) {
	b := &bus{c: c, denied: make(chan error, 1)}
	nc, err := nats.Connect(c.server, append(c.natsAuth(), nats.Name("unitgate cli"), nats.Timeout(connectWait), nats.ErrorHandler(b.complain))...)
	if err != nil {
		return nil, errNoNATS.With("cannot connect to %s: %s", redact(c.server), because(err))
	}
	if addr, plain := natsbus.InPlain(nc); plain {
		fmt.Fprintf(c.err, "unitgate: warning: %s: %s\n", addr, natsbus.PlainWarning)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	b.nc, b.js = nc, js
	return b, nil
}

// redact hides user, password and token of servers' URLs, whatever their form: all that stands before an @.
func redact(urls string) string {
	parts := strings.Split(urls, ",")
	for i, u := range parts {
		at := strings.LastIndexByte(u, '@')
		if at < 0 {
			continue
		}
		scheme := ""
		if s, _, ok := strings.Cut(u, "://"); ok && len(s) < at && !strings.ContainsRune(s, '@') {
			scheme = s + "://"
		}
		parts[i] = scheme + "***" + u[at:]
	}
	return strings.Join(parts, ",")
}

// because is what a connection failed with, without the URL that such an error may quote.
func because(err error) string {
	var parse *url.Error
	if errors.As(err, &parse) {
		return "its URL cannot be read: check its form, and escape special characters"
	}
	return err.Error()
}

func (b *bus) close() { b.nc.Close() }

// name is the namespace that the command is about: the one given, or the only one there is. A journal without an event, as
// a first command that was rejected may leave one, counts only where there is no other.
func (b *bus) name(ctx context.Context) (string, error) {
	if b.c.namespace != "" {
		return b.c.namespace, events.CheckID(b.c.namespace, "namespace")
	}
	found, err := journal.ListAsking(ctx, b.js)
	if err != nil {
		return "", reader.Unavailable(err)
	}
	names := written(found)
	switch len(names) {
	case 0:
		return "", events.ErrUnknownNamespace.With("there is no namespace yet")
	case 1:
		return names[0], nil
	}
	return "", usage("there are several namespaces: choose one with -n: %s", strings.Join(names, ", "))
}

// written are the namespaces whose journals hold an event; all if none does.
func written(found []journal.Listed) []string {
	var all, out []string
	for _, ns := range found {
		all = append(all, ns.Name)
		if ns.Head > 0 {
			out = append(out, ns.Name)
		}
	}
	if out == nil {
		return all
	}
	return out
}

// open opens a namespace's journal, whose reading shows how far it is.
func (b *bus) open(ctx context.Context, name string) (*reader.Reader, error) {
	r, err := reader.Open(ctx, b.js, name, slog.New(slog.NewTextHandler(b.c.err, &slog.HandlerOptions{Level: slog.LevelError})))
	if err == nil {
		r.Progress = b.c.meter("reading the journal of " + name)
	}
	return r, err
}

// state folds a namespace's journal up to its head. A namespace that does not exist is ErrUnknownNamespace.
func (b *bus) state(ctx context.Context, name string) (*events.State, error) {
	r, err := b.open(ctx, name)
	if err != nil {
		return nil, err
	}
	return r.State(ctx)
}

// history connects, and opens the journal of the namespace that the command is about.
func (c *cli) history(ctx context.Context) (*bus, *reader.Reader, error) {
	b, ns, err := c.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	r, err := b.open(ctx, ns)
	if err != nil {
		b.close()
		return nil, nil, err
	}
	return b, r, nil
}

// read connects, and folds the namespace that the command is about.
func (c *cli) read(ctx context.Context) (*bus, *events.State, error) {
	return c.readAt(ctx, reader.Point{})
}

// readAt is read up to a point in history.
func (c *cli) readAt(ctx context.Context, p reader.Point) (*bus, *events.State, error) {
	b, r, err := c.history(ctx)
	if err != nil {
		return nil, nil, err
	}
	s, err := r.At(ctx, p)
	if err != nil {
		b.close()
		return nil, nil, err
	}
	return b, s, nil
}

// traceparent is the trace that whoever runs this command works in: pipelines hand it on in the variable TRACEPARENT
// (https://opentelemetry.io/docs/specs/otel/context/env-carriers/). Without one a command begins its own.
func traceparent() string {
	v := os.Getenv("TRACEPARENT")
	if _, _, ok := events.ParseTraceparent(v); !ok {
		return ""
	}
	return v
}

// do sends a command or query to the control plane; a rejection is an error.
func (b *bus) do(ctx context.Context, namespace, entity, verb, reason string, data any) (command.Outcome, error) {
	ctx, cancel := context.WithTimeout(ctx, commandWait)
	defer cancel()
	ctx, deny := context.WithCancelCause(ctx)
	go func() {
		select {
		case err := <-b.denied: // no answer will come
			deny(errDenied.With("this user may not give the command %s.%s: %v", entity, verb, err))
		case <-ctx.Done():
		}
	}()
	o, err := command.NewClient(b.nc, namespace).Do(ctx, entity, verb, command.Request{Actor: actor(), Reason: reason, Traceparent: traceparent(), Data: data})
	var denied *events.Error
	switch {
	case err == nil && !o.OK:
		err = o.Error
	case err != nil && errors.As(context.Cause(ctx), &denied):
		err = denied
	}
	return o, err
}

// ask sends a query and reads its answer.
func (b *bus) ask(ctx context.Context, namespace, entity, verb string, data, into any) error {
	o, err := b.do(ctx, namespace, entity, verb, "", data)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(o.Data, into); err != nil {
		return command.ErrNoAnswer.With("%s.%s: the answer is not as expected: %v", entity, verb, err)
	}
	return nil
}

// actor is who gives a command: user@host. A container may have a user that no file names.
func actor() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); name == "" && err == nil {
		name = u.Username
	}
	if name == "" {
		name = fmt.Sprintf("uid%d", os.Getuid())
	}
	host, err := os.Hostname()
	if err != nil {
		return name
	}
	return name + "@" + host
}
