// Package cli is unitgate's command line: flags, the commands that talk to a running system, what they print and how
// they end. The commands keep no state; reading ones fold the journal themselves and need no control plane.
//
// Exit codes: 0 done; 1 failed; 2 usage; 3 rejected by a rule of the system.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/choria-io/fisk"
	"github.com/nats-io/nats.go"
)

// The exit codes.
const (
	exitDone     = 0
	exitFailed   = 1
	exitUsage    = 2
	exitRejected = 3
)

// Run runs one command and returns its exit code. args are without the program's name. When ctx ends, so does the
// command; servers then end with 0.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	c := &cli{in: stdin, raw: stdout, tty: screen(stderr), out: letters{stdout}, err: letters{stderr}}
	run, err := c.parse(args)
	if c.json() {
		c.out = documents{stdout}
	}
	var done finished
	if errors.As(err, &done) {
		return exitDone // help has been printed
	}
	if err == nil {
		err = c.useContext()
	}
	if err == nil {
		err = c.useKey()
	}
	if err == nil {
		err = run(ctx)
	}
	return c.report(err)
}

// cli is one run of the program.
type cli struct {
	in       io.Reader
	out, err io.Writer // nothing but letters goes through these
	raw      io.Writer // where out goes, for what is made to be read by programs
	tty      io.Writer // where progress is shown; nil if standard error is no terminal

	server    string        // --nats
	serverSet bool          // it was given, and is not the default or the environment's
	context   string        // --context
	auth      []nats.Option // what the context says of it
	namespace string
	format    string // text or json
	creds     string
	jaeger    string // web address of a Jaeger, "": none
	nkey      string
	tlsCA     string

	selected func(ctx context.Context) error
}

func (c *cli) json() bool { return c.format == "json" }

// say writes a line of text output; with -o json there is none.
func (c *cli) say(format string, args ...any) {
	if !c.json() {
		fmt.Fprintf(c.out, format+"\n", args...)
	}
}

// finished is what fisk's wish to end the program becomes.
type finished struct{}

func (finished) Error() string { return "finished" }

// parse reads the command line and returns the command's action. Whatever is wrong is a usage error.
func (c *cli) parse(args []string) (run func(context.Context) error, err error) {
	c.format = formatOf(args) // so that errors of parsing are printed right, too
	defer func() {
		switch r := recover().(type) {
		case nil:
		case finished:
			err = r
		default:
			panic(r)
		}
	}()
	if _, err := c.app().Parse(args); err != nil {
		return nil, usage("%w", tidy(err))
	}
	return c.selected, nil
}

// formatOf finds -o in a command line that may not parse.
func formatOf(args []string) string {
	for i, a := range args {
		for _, flag := range []string{"-o", "--output"} {
			if v, ok := strings.CutPrefix(a, flag); ok && strings.TrimPrefix(v, "=") == "json" || a == flag && i+1 < len(args) && args[i+1] == "json" {
				return "json"
			}
		}
	}
	return "text"
}

// tidy puts fisk's errors into our form: lower case, with what to do next.
func tidy(err error) error {
	text := err.Error()
	text = strings.ToLower(text[:1]) + text[1:]
	switch {
	case strings.Contains(text, fisk.ErrUnknownShortFlag.Error()):
		text += ` (a word that begins with "-" comes after --, as in: unitgate route -- -5)`
	case strings.Contains(text, fisk.ErrExpectedFlagArgument.Error()):
		text += ` (a value that begins with "-" is written with =, as in: --router-id=-5)`
	}
	return fmt.Errorf("%s; see unitgate --help", text)
}

func (c *cli) app() *fisk.Application {
	fisk.EnableFileExpansion = false // a word is a word: @bob may be somebody's routerId
	app := fisk.New("unitgate", "Access layer for applications that are active in several regions at once")
	app.Writer(c.out)
	app.ErrorWriter(c.err)
	app.Terminate(func(int) { panic(finished{}) })
	app.Validate(func(*fisk.Application) error {
		if c.selected == nil {
			return errors.New("no command given")
		}
		return nil
	})
	app.Flag("nats", "NATS server to connect to").PlaceHolder("URL").Envar("NATS_URL").Default("nats://127.0.0.1:4222").IsSetByUser(&c.serverSet).StringVar(&c.server)
	app.Flag("context", "context of the nats CLI that says how to connect; other flags win over it").PlaceHolder("NAME").StringVar(&c.context)
	app.Flag("namespace", "namespace; needed only where there are several").Short('n').PlaceHolder("NAME").StringVar(&c.namespace)
	app.Flag("output", "text or json").Short('o').Default("text").HintOptions("text", "json").EnumVar(&c.format, "text", "json")
	app.Flag("creds", "NATS credentials file").PlaceHolder("FILE").StringVar(&c.creds)
	app.Flag("nkey", "file with the seed of a NATS nkey").PlaceHolder("FILE").StringVar(&c.nkey)
	app.Flag("tls-ca", "certificate authority of the NATS server").PlaceHolder("FILE").StringVar(&c.tlsCA)
	c.addServers(app)
	c.addReady(app)
	c.addOrigin(app)
	c.addApply(app)
	c.addSchema(app)
	c.addGet(app)
	c.addRoute(app)
	c.addRules(app)
	c.addExport(app)
	c.addLog(app)
	c.addJournal(app)
	c.addCutover(app)
	c.addDomain(app)
	c.addSLB(app)
	c.addOperator(app)
	c.addEvict(app)
	c.addHookKey(app)
	c.addDurable(app)
	c.addConnect(app)
	return app
}

// parent is an application or a command: something that has commands.
type parent interface {
	Command(name, help string) *fisk.CmdClause
}

// command adds a command whose action runs after everything has been parsed.
func (c *cli) command(p parent, name, help string, run func(ctx context.Context) error) *fisk.CmdClause {
	return p.Command(name, help).PreAction(func(*fisk.ParseContext) error {
		c.selected = run
		return nil
	})
}

// number is a flag's whole number; its errors name the flag.
type number struct {
	flag string
	to   *int
}

func (n number) String() string { return strconv.Itoa(*n.to) }

func (n number) Set(s string) error {
	v, err := strconv.Atoi(s)
	if err != nil {
		return fmt.Errorf("--%s %q: want a whole number", n.flag, s)
	}
	*n.to = v
	return nil
}

// addNumber adds a flag for a whole number.
func addNumber(cmd *fisk.CmdClause, name, help string, to *int) {
	cmd.Flag(name, help).PlaceHolder("N").SetValue(number{name, to})
}
