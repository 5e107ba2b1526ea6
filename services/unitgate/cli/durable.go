package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
)

// errNoOutcome: nothing is known of a durable command (yet).
var errNoOutcome = &events.Error{Code: "no_outcome"}

// firstLook is how long `outcome` looks without --wait.
const firstLook = 2 * time.Second

// durable holds the flags and arguments of the commands about durable commands.
type durable struct {
	*cli
	name, data, id, reason string
	expires                time.Duration
	wait                   bool
}

func (c *cli) addDurable(p parent) {
	d := &durable{cli: c}
	queue := c.command(p, "queue", "Leave a command for the control plane, which takes it when it runs; it takes effect once, or expires", d.queue)
	queue.Arg("command", "what the api calls it, such as unit.put").Required().HintOptions(commandNames()...).StringVar(&d.name)
	queue.Arg("data", "its data as JSON; - reads it from standard input").Default("{}").StringVar(&d.data)
	queue.Flag("id", "the command's id, a UUID; the same id never takes effect twice. A fresh one if not given").PlaceHolder("UUID").StringVar(&d.id)
	queue.Flag("expires", "how long it may wait, at most 24h").Default("60s").PlaceHolder("DURATION").DurationVar(&d.expires)
	queue.Flag("reason", "goes into the journal").StringVar(&d.reason)
	queue.Flag("wait", "wait for its outcome").UnNegatableBoolVar(&d.wait)
	outcome := c.command(p, "outcome", "Show what became of a queued command; outcomes are kept for 24 hours", d.outcome)
	outcome.Arg("id", "the command's id").Required().StringVar(&d.id)
	outcome.Flag("wait", "wait until there is one").UnNegatableBoolVar(&d.wait)
}

// commandNames are the commands that may be queued, as entity.verb.
func commandNames() []string {
	var out []string
	for _, n := range events.Names() {
		out = append(out, n.Entity+"."+n.Verb)
	}
	slices.Sort(out)
	return out
}

func (d *durable) queue(ctx context.Context) error {
	entity, verb, _ := strings.Cut(d.name, ".")
	if _, ok := events.FindName(entity, verb); !ok {
		return usage("command %q: want one of %s", d.name, strings.Join(commandNames(), ", "))
	}
	text := []byte(d.data)
	if d.data == "" { // what fisk makes of -
		var err error
		if text, err = io.ReadAll(d.in); err != nil {
			return usage("cannot read the command's data: %w", err)
		}
	}
	if !json.Valid(text) {
		return usage("the command's data is no JSON: %.80s", text)
	}
	if d.expires <= 0 {
		return usage("--expires %s: want more than nothing", d.expires)
	}
	b, ns, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	client := command.NewClient(b.nc, ns)
	request := command.Request{ID: d.id, Actor: actor(), Reason: d.reason, Traceparent: traceparent(), Data: json.RawMessage(text)}
	ticket, err := client.Publish(ctx, entity, verb, request, d.expires)
	if err != nil {
		return err
	}
	if d.wait {
		return d.await(ctx, client, ticket.ID)
	}
	d.say("queued as %s for %s: unitgate outcome %s", ticket.ID, d.expires, ticket.ID)
	return d.print(map[string]any{"id": ticket.ID, "queued": ticket.Seq})
}

func (d *durable) outcome(ctx context.Context) error {
	if err := events.CheckUUID(d.id); err != nil {
		return err
	}
	b, ns, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	if !d.wait {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, firstLook)
		defer cancel()
	}
	return d.await(ctx, command.NewClient(b.nc, ns), d.id)
}

// await shows an outcome once there is one. A rejection is an error, as it is of a command that was not queued.
func (d *durable) await(ctx context.Context, client *command.Client, id string) error {
	s, err := client.Outcome(ctx, id)
	if errors.Is(err, command.ErrNoAnswer) {
		return errNoOutcome.With("nothing is known of %s", id)
	}
	if err != nil {
		return err
	}
	if err := d.print(s); err != nil || s.OK {
		d.say("%s.%s took effect at sequence %d", s.Entity, s.Verb, s.Seq)
		return err
	}
	if d.json() {
		return shown{s.Error}
	}
	return s.Error
}
