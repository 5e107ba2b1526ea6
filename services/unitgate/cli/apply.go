package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
)

// applied is what `apply -o json` prints.
type applied struct {
	Namespace string   `json:"namespace"`
	Changes   []string `json:"changes"` // as the plan shows them
	Applied   bool     `json:"applied"` // false: nothing to do, or a dry run
	Seq       uint64   `json:"seq,omitempty"`
}

type apply struct {
	*cli
	file                       string
	dryRun, yes, drafts, prune bool
}

func (c *cli) addApply(p parent) {
	a := &apply{cli: c}
	cmd := c.command(p, "apply", "Bring a namespace to what a config file says, all or nothing", a.run)
	cmd.Flag("file", "config file; - is standard input").Short('f').Required().PlaceHolder("FILE").StringVar(&a.file)
	cmd.Flag("dry-run", "print the plan and change nothing").UnNegatableBoolVar(&a.dryRun)
	cmd.Flag("yes", "do not ask").UnNegatableBoolVar(&a.yes)
	cmd.Flag("draft", "leave changed domains as drafts").UnNegatableBoolVar(&a.drafts)
	cmd.Flag("prune", "remove what the file does not name, in the parts that it has").UnNegatableBoolVar(&a.prune)
}

func (a *apply) run(ctx context.Context) error {
	f, err := a.read()
	if err != nil {
		return err
	}
	b, err := a.connect()
	if err != nil {
		return err
	}
	defer b.close()
	ns := f.Config.Namespace
	s, err := b.state(ctx, ns)
	if errors.Is(err, events.ErrUnknownNamespace) {
		s, err = events.NewState(), nil // this config makes it
	}
	if err != nil {
		return err
	}
	plan, err := events.PlanConfig(s, f.Config, events.PlanOptions{Prune: a.prune, Drafts: a.drafts})
	if err != nil {
		return f.Locate(err)
	}
	out := applied{Namespace: ns, Changes: append([]string{}, plan.Lines...)}
	if plan.Empty() {
		a.say("namespace %s is already as %s says", ns, f.Name)
		return a.print(out)
	}
	a.say("namespace %s:", ns)
	for _, l := range plan.Lines {
		a.say("  %s", l)
	}
	if a.dryRun {
		a.say("dry run: nothing was changed")
		return a.print(out)
	}
	if err := a.confirm(ctx); err != nil {
		return err
	}
	o, err := b.do(ctx, ns, "config", "apply", "", events.ApplyConfig{Base: s.ConfigVersion, Config: f.Config, Prune: a.prune, Drafts: a.drafts})
	if err != nil {
		return f.Locate(err)
	}
	a.say("applied at sequence %d", o.Seq)
	out.Applied, out.Seq = true, o.Seq
	return a.print(out)
}

func (a *apply) read() (*configfile.File, error) {
	if a.file == "" {
		a.file = "-" // what fisk makes of `-f -`
	}
	f, err := configfile.Read(a.file, a.in)
	var missing *fs.PathError
	switch {
	case errors.As(err, &missing):
		return nil, usage("cannot read the config file: %w", err)
	case err != nil:
		return nil, err
	case a.namespace != "" && a.namespace != f.Config.Namespace:
		return nil, usage("%s is the config of namespace %q, not of %q: leave out -n", f.Name, f.Config.Namespace, a.namespace)
	}
	return f, nil
}

// print prints the JSON document, if that is wanted.
func (c *cli) print(v any) error {
	if !c.json() {
		return nil
	}
	return c.document(v)
}

// confirm asks before anything is changed. Without a terminal nobody can answer.
func (a *apply) confirm(ctx context.Context) error {
	if a.yes {
		return nil
	}
	in, ok := a.in.(*os.File)
	if !ok || a.json() || a.file == "-" || !terminal(in) {
		return usage("this would change the namespace, and nobody can be asked here: repeat it with --yes")
	}
	fmt.Fprint(a.out, "apply this? [y/N] ")
	answers := make(chan string, 1)
	go func() {
		answer, _ := bufio.NewReader(in).ReadString('\n') // the end of input is a no
		answers <- strings.ToLower(strings.TrimSpace(answer))
	}()
	select {
	case <-ctx.Done(): // the reading ends with the process
	case answer := <-answers:
		if answer == "y" || answer == "yes" {
			return nil
		}
	}
	return errors.New("not applied")
}

// terminal reports whether a file is one. /dev/null is a character device, too.
func terminal(f *os.File) bool {
	st, err := f.Stat()
	if err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(st, null)
}
