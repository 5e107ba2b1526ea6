package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/unitgate/configfile"
)

// planned is one namespace of a config file: what would change, and what became of it. It is what `apply -o json` prints.
type planned struct {
	Namespace string   `json:"namespace"`
	Changes   []string `json:"changes"`            // as the plan shows them
	Warnings  []string `json:"warnings,omitempty"` // what is allowed, and seldom meant
	Applied   bool     `json:"applied"`            // false: nothing to do, a dry run, refused, or not tried
	Seq       uint64   `json:"seq,omitempty"`

	file *configfile.File
	base uint64 // version of the configuration that it was planned against
}

// planList is what it prints of a file with several namespaces.
type planList struct {
	Namespaces []*planned `json:"namespaces"`
	Error      *failure   `json:"error,omitempty"` // after which the rest was not tried
}

// errPartly: of a file's namespaces some were applied, and then one was not.
var errPartly = &events.Error{Code: "partly_applied"}

type apply struct {
	*cli
	file, reason                      string
	dryRun, yes, drafts, prune, force bool
}

func (c *cli) addApply(p parent) {
	a := &apply{cli: c}
	cmd := c.command(p, "apply", "Bring a namespace to what a config file says, all or nothing; several, one after the other", a.run)
	cmd.Flag("file", "config file; - is standard input").Short('f').Required().PlaceHolder("FILE").StringVar(&a.file)
	cmd.Flag("dry-run", "print the plan and change nothing").UnNegatableBoolVar(&a.dryRun)
	cmd.Flag("yes", "do not ask").UnNegatableBoolVar(&a.yes)
	cmd.Flag("draft", "leave changed domains as drafts").UnNegatableBoolVar(&a.drafts)
	cmd.Flag("force", "with --prune: remove domains although sessions of them live, or an edge does not say, and close those; needs --reason").UnNegatableBoolVar(&a.force)
	cmd.Flag("reason", "goes into the journal").StringVar(&a.reason)
	cmd.Flag("prune", "remove what the file does not name, in the parts that it has").UnNegatableBoolVar(&a.prune)
}

func (a *apply) run(ctx context.Context) error {
	if a.force && !a.prune {
		return usage("--force is about what --prune removes")
	}
	files, err := a.read()
	if err != nil {
		return err
	}
	b, err := a.connect()
	if err != nil {
		return err
	}
	defer b.close()
	plans, err := a.plan(ctx, b, files)
	if err != nil {
		return err // of none of them anything is done
	}
	var todo []*planned
	for _, p := range plans {
		if len(p.Changes) == 0 {
			a.say("namespace %s is already as %s says", p.Namespace, p.file.Name)
			a.warn(p)
			continue
		}
		a.say("namespace %s:", p.Namespace)
		for _, l := range p.Changes {
			a.say("  %s", l)
		}
		a.warn(p)
		todo = append(todo, p)
	}
	switch {
	case len(todo) == 0:
		return a.result(plans, nil)
	case a.dryRun:
		a.say("dry run: nothing was changed")
		return a.result(plans, nil)
	}
	if err := a.confirm(ctx, todo); err != nil {
		return err
	}
	return a.result(plans, a.carryOut(ctx, b, todo))
}

// plan compares every namespace of the file with what there is.
func (a *apply) plan(ctx context.Context, b *bus, files []*configfile.File) ([]*planned, error) {
	var out []*planned
	for _, f := range files {
		p := &planned{Namespace: f.Config.Namespace, Changes: []string{}, file: f}
		s, err := b.state(ctx, p.Namespace)
		if errors.Is(err, events.ErrUnknownNamespace) || err == nil && s.Namespace == "" {
			s, err = events.NewState(), nil // this config makes it
			p.Changes = append(p.Changes, "+ namespace "+p.Namespace)
		}
		if err != nil {
			return nil, err
		}
		plan, err := events.PlanConfig(s, f.Config, events.PlanOptions{Prune: a.prune, Drafts: a.drafts, Warn: true})
		if err != nil {
			return nil, f.Locate(err)
		}
		p.Warnings = plan.Warnings
		p.Changes, p.base = append(p.Changes, plan.Lines...), s.ConfigVersion
		out = append(out, p)
	}
	return out, nil
}

func (a *apply) warn(p *planned) {
	for _, w := range p.Warnings {
		a.say("  warning: %s", w)
	}
}

// carryOut applies the plans one after the other: each namespace has a journal of its own, so that there is no all or nothing
// across them. It stops at the first that is refused.
func (a *apply) carryOut(ctx context.Context, b *bus, todo []*planned) error {
	for i, p := range todo {
		cfg, err := p.file.Config.Packed() // long lists of exact IDs do not fit into a message as they are
		if err != nil {
			return partly(p.file.Locate(err), todo, i)
		}
		o, err := b.do(ctx, p.Namespace, "config", "apply", a.reason, events.ApplyConfig{Base: p.base, Config: cfg, Prune: a.prune, Drafts: a.drafts, Force: a.force})
		if err != nil {
			return partly(p.file.Locate(err), todo, i) // whatever a command ends with is an *events.Error
		}
		p.Applied, p.Seq = true, o.Seq
		if len(todo) == 1 {
			a.say("applied at sequence %d", o.Seq)
		} else {
			a.say("%s: applied at sequence %d", p.Namespace, o.Seq)
		}
	}
	return nil
}

// partly says of the error that ended the list which namespaces came before it, and which were left.
func partly(err error, todo []*planned, failed int) error {
	var in *configfile.Error
	if failed == 0 || !errors.As(err, &in) {
		return err
	}
	names := func(list []*planned) string {
		var out []string
		for _, p := range list {
			out = append(out, p.Namespace)
		}
		return cmp.Or(strings.Join(out, ", "), "none")
	}
	e := errPartly.With("applied: %s; failed: %s (%s: %s); not tried: %s",
		names(todo[:failed]), todo[failed].Namespace, in.Cause.Code, in.Cause.Message, names(todo[failed+1:]))
	return &configfile.Error{Cause: e.At(in.Cause.Field), File: in.File, Line: in.Line}
}

// result prints the JSON document, if that is wanted: of a file with one namespace what is about it, else a list.
func (a *apply) result(plans []*planned, err error) error {
	if !a.json() || err != nil && len(plans) == 1 {
		return err
	}
	if len(plans) == 1 {
		return a.document(plans[0])
	}
	list := planList{Namespaces: plans}
	if err != nil {
		f := failureOf(err)
		list.Error, err = &f, shown{err}
	}
	return errors.Join(a.document(list), err)
}

func (a *apply) read() ([]*configfile.File, error) {
	if a.file == "" {
		a.file = "-" // what fisk makes of `-f -`
	}
	files, err := configfile.Read(a.file, a.in)
	if missing := new(fs.PathError); errors.As(err, &missing) {
		return nil, usage("cannot read the config file: %w", err)
	}
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if a.namespace != "" && a.namespace != f.Config.Namespace {
			return nil, usage("%s is the config of namespace %q, not of %q: leave out -n", f.Name, f.Config.Namespace, a.namespace)
		}
	}
	return files, nil
}

// print prints the JSON document, if that is wanted.
func (c *cli) print(v any) error {
	if !c.json() {
		return nil
	}
	return c.document(v)
}

// confirm asks before anything is changed.
func (a *apply) confirm(ctx context.Context, todo []*planned) error {
	question := "apply this?"
	if len(todo) > 1 {
		question = fmt.Sprintf("apply this to %d namespaces?", len(todo))
	}
	return a.ask(ctx, a.yes, a.file == "-", question)
}

// ask asks a question, unless the answer was given as a flag. Without a terminal, or where standard input is read for
// something else, nobody can answer.
func (c *cli) ask(ctx context.Context, yes, busy bool, question string) error {
	if yes {
		return nil
	}
	in, ok := c.in.(*os.File)
	if !ok || c.json() || busy || !terminal(in) {
		return usage("this would change the namespace, and nobody can be asked here: repeat it with --yes")
	}
	fmt.Fprintf(c.out, "%s [y/N] ", question)
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
