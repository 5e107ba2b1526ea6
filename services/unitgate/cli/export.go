package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/events/journal"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

type export struct {
	*cli
	at          reader.Point
	drafts, all bool
}

func (c *cli) addExport(p parent) {
	x := &export{cli: c}
	cmd := c.command(p, "export", "Print a namespace as the config file that apply takes", x.run)
	addAt(cmd, &x.at)
	cmd.Flag("draft", "domains as their drafts have them, for apply --draft").UnNegatableBoolVar(&x.drafts)
	cmd.Flag("all", "every namespace, as the documents of one file").UnNegatableBoolVar(&x.all)
}

// run prints YAML; with -o json the same as JSON, which apply takes, too, but for the list that --all makes of it.
func (x *export) run(ctx context.Context) error {
	if x.all {
		return x.runAll(ctx)
	}
	b, s, err := x.readAt(ctx, x.at)
	if err != nil {
		return err
	}
	defer b.close()
	text, doc, err := x.export(s)
	switch {
	case err != nil:
		return err
	case x.json():
		return x.document(doc)
	}
	_, err = x.raw.Write(text) // Format has quoted what is not visible
	return err
}

// runAll prints the namespaces in the order of their names, each as it is printed alone.
func (x *export) runAll(ctx context.Context) error {
	switch {
	case x.namespace != "":
		return usage("--all is every namespace: leave out -n")
	case x.at.Seq > 0:
		return usage("--at %s: each namespace counts its own events, so that --all needs a time", x.at)
	}
	b, err := x.connect()
	if err != nil {
		return err
	}
	defer b.close()
	states, err := b.states(ctx, x.at)
	if err != nil {
		return err
	}
	if len(states) == 0 {
		return events.ErrUnknownNamespace.With("there is no namespace yet")
	}
	var docs []json.RawMessage
	var texts []string
	for _, s := range states {
		text, doc, err := x.export(s)
		if err != nil {
			return err
		}
		docs, texts = append(docs, doc), append(texts, string(text))
	}
	if x.json() {
		return x.document(docs)
	}
	_, err = io.WriteString(x.raw, strings.Join(texts, "---\n"))
	return err
}

// states are those of all namespaces that were there at a point in time, in the order of their names.
func (b *bus) states(ctx context.Context, at reader.Point) ([]*events.State, error) {
	found, err := journal.ListAsking(ctx, b.js)
	if err != nil {
		return nil, reader.Unavailable(err)
	}
	var out []*events.State
	for _, ns := range found {
		r, err := b.open(ctx, ns.Name)
		if err != nil {
			return nil, err
		}
		s, err := r.At(ctx, at)
		switch {
		case errors.Is(err, events.ErrUnknownNamespace), errors.Is(err, reader.ErrBeforeBeginning):
			continue // a journal that a rejected first command has left, or one that began later
		case err != nil:
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

// export writes one namespace as YAML and as JSON, and notes on standard error what is not in it.
func (x *export) export(s *events.State) (text []byte, doc json.RawMessage, err error) {
	cfg, left := configfile.Of(s, x.drafts)
	if text, err = configfile.Format(cfg); err != nil {
		return nil, nil, err
	}
	if len(left) > 0 {
		why := "have drafts, which are left out: unitgate domain activate HOST makes one effective, export --draft shows them"
		if x.drafts {
			why = "are active in another version than their drafts, which stand here"
		}
		fmt.Fprintf(x.err, "unitgate: note: %s %s\n", strings.Join(left, ", "), why)
	}
	f, err := configfile.Parse("export", text)
	if err != nil {
		return nil, nil, err
	}
	doc, err = f.JSON()
	return text, doc, err
}
