package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/unitgate/unitgate/services/unitgate/configfile"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

type export struct {
	*cli
	at     reader.Point
	drafts bool
}

func (c *cli) addExport(p parent) {
	x := &export{cli: c}
	cmd := c.command(p, "export", "Print a namespace as the config file that apply takes", x.run)
	addAt(cmd, &x.at)
	cmd.Flag("draft", "domains as their drafts have them, for apply --draft").UnNegatableBoolVar(&x.drafts)
}

// run prints YAML; with -o json the same as JSON, which apply takes, too.
func (x *export) run(ctx context.Context) error {
	b, s, err := x.readAt(ctx, x.at)
	if err != nil {
		return err
	}
	defer b.close()
	cfg, left := configfile.Of(s, x.drafts)
	text, err := configfile.Format(cfg)
	if err != nil {
		return err
	}
	if len(left) > 0 {
		why := "have drafts, which are left out: unitgate domain activate HOST makes one effective, export --draft shows them"
		if x.drafts {
			why = "are active in another version than their drafts, which stand here"
		}
		fmt.Fprintf(x.err, "unitgate: note: %s %s\n", strings.Join(left, ", "), why)
	}
	if x.json() {
		f, err := configfile.Parse("export", text)
		if err != nil {
			return err
		}
		doc, err := f.JSON()
		if err != nil {
			return err
		}
		return x.document(doc)
	}
	_, err = x.raw.Write(text) // Format has quoted what is not visible
	return err
}
