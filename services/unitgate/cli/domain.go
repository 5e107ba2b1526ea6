package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/unitgate/unitgate/events"
)

// domain holds the arguments of the commands for one domain.
type domain struct {
	*cli
	host, reason string
	force        bool
}

func (c *cli) addDomain(p parent) {
	d := &domain{cli: c}
	group := p.Command("domain", "Domains")
	c.command(group, "activate", "Make a domain's draft effective", d.activate).Arg("host", "the domain").Required().StringVar(&d.host)
	c.command(group, "diff", "Show what activating the draft would change", d.diff).Arg("host", "the domain").Required().StringVar(&d.host)
	for _, verb := range []struct{ name, help string }{
		{"deactivate", "Take a domain out of service and keep it as a draft, once nobody has a session of it"},
		{"remove", "Remove a domain, draft and active version, once nobody has a session of it"},
	} {
		cmd := c.command(group, verb.name, verb.help, func(ctx context.Context) error { return d.end(ctx, verb.name) })
		cmd.Arg("host", "the domain").Required().StringVar(&d.host)
		cmd.Flag("force", "close its sessions, also where an edge does not say whether it has some; needs --reason").UnNegatableBoolVar(&d.force)
		cmd.Flag("reason", "goes into the journal").StringVar(&d.reason)
	}
}

func (d *domain) activate(ctx context.Context) error {
	o := &operator{cli: d.cli}
	return o.simple(ctx, "domain", "activate", map[string]string{"host": d.host}, "domain "+d.host+" is effective")
}

// endedDomain is what `domain deactivate|remove -o json` prints.
type endedDomain struct {
	OK  bool   `json:"ok"`
	Seq uint64 `json:"seq"`
	events.DomainEnd
}

// end asks the control plane, which asks every edge: what this process knows decides nothing.
func (d *domain) end(ctx context.Context, verb string) error {
	b, ns, err := d.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	o, err := b.do(ctx, ns, "domain", verb, d.reason, map[string]any{"host": d.host, "force": d.force})
	if err != nil {
		return err
	}
	out := endedDomain{OK: true, Seq: o.Seq}
	if err := json.Unmarshal(o.Data, &out.DomainEnd); err != nil {
		return fmt.Errorf("the answer is not as expected: %w", err)
	}
	done := map[string]string{"deactivate": "is a draft again", "remove": "is gone"}[verb]
	d.say("domain %s %s, at sequence %d", d.host, done, out.Seq)
	switch {
	case !out.Forced:
	case len(out.SilentEdges) > 0:
		d.say("  its sessions are closed: %d were counted, and whatever these edges have when they hear of it: %s", out.Sessions, strings.Join(out.SilentEdges, ", "))
	default:
		d.say("  its sessions are closed: %d", out.Sessions)
	}
	return d.print(out)
}

// domainDiff is what `domain diff -o json` prints.
type domainDiff struct {
	Host    string               `json:"host"`
	State   string               `json:"state"` // as in get domains
	Changes []events.FieldChange `json:"changes"`
}

func (d *domain) diff(ctx context.Context) error {
	b, s, err := d.read(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	v, ok := viewOf(s, d.host)
	if !ok {
		return events.ErrUnknownDomain.With("there is no domain %q", d.host).At("host")
	}
	out := domainDiff{Host: v.Host, State: v.State, Changes: v.Changes}
	if d.json() {
		return d.document(out)
	}
	d.say("domain %s: %s", v.Host, inState(v.State))
	d.changes("  ", v.Changes)
	return nil
}

// inState says what a domain's state means.
func inState(state string) string {
	switch state {
	case "draft":
		return "a draft that was never activated, or was deactivated; activating it sets"
	case "changed":
		return "active, and activating its draft would change"
	default:
		return "active, and there is no other draft"
	}
}

// changes prints one line for what goes and one for what comes, as diffs do.
func (c *cli) changes(indent string, list []events.FieldChange) {
	for _, f := range list {
		if f.Was != nil {
			c.say("%s- %s: %v", indent, f.Field, f.Was)
		}
		if f.Becomes != nil {
			c.say("%s+ %s: %v", indent, f.Field, f.Becomes)
		}
	}
}

// simple sends a command of which there is nothing to show but that it took effect.
func (o *operator) simple(ctx context.Context, entity, verb string, data map[string]string, done string) error {
	b, ns, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	out, err := b.do(ctx, ns, entity, verb, o.reason, data)
	if err != nil {
		return err
	}
	o.say("%s, at sequence %d", done, out.Seq)
	return o.print(map[string]any{"ok": true, "seq": out.Seq})
}
