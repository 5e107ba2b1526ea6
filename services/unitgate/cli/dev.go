package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/unitgate/unitgate/services/unitgate/configfile"
	"github.com/unitgate/unitgate/services/unitgate/dev"
)

type devCmd struct {
	*cli
	dev.Options
	file, readyFile string
	hooks           hookFlags
	logs            logging
}

func (c *cli) addDev(p parent) {
	d := &devCmd{cli: c}
	cmd := c.command(p, "dev", "Run a whole system in this process, for a first look", d.run)
	cmd.Flag("file", "run this config instead of the demo").Short('f').PlaceHolder("FILE").StringVar(&d.file)
	cmd.Flag("data", "directory that keeps everything; a temporary one if not given").PlaceHolder("DIR").StringVar(&d.Data)
	cmd.Flag("free-ports", "let the kernel choose the ports, instead of 4222, 7101, 7102, 7201, …").UnNegatableBoolVar(&d.FreePorts)
	d.Edges = 2
	addNumber(cmd, "edges", "edges of each unit; 2 if not given", &d.Edges)
	d.hooks.add(cmd, devHooks)
	d.logs.add(cmd, "warn")
	addOTLP(cmd, &d.OTLP)
	cmd.Flag("ready-file", "written when everything serves").PlaceHolder("FILE").StringVar(&d.readyFile)
}

func (d *devCmd) run(ctx context.Context) (err error) {
	if d.Edges < 1 || d.Edges > 99 {
		return usage("--edges %d: want 1 to 99", d.Edges)
	}
	if d.Hooks, d.Dials, err = d.hooks.caller(); err != nil {
		return err
	}
	if d.file != "" {
		a := apply{cli: d.cli, file: d.file}
		files, err := a.read()
		if err == nil {
			d.File, err = configfile.Single(files)
		}
		if err != nil {
			return err
		}
	}
	d.Log = d.logger(&d.logs)
	system, err := dev.Start(ctx, d.Options)
	switch {
	case ctx.Err() != nil && err != nil:
		return nil //nolint:nilerr // stopped before it was ready: that is no failure
	case err != nil:
		return err
	}
	if d.readyFile != "" {
		err = system.Ready().WriteFile(d.readyFile)
	}
	if err == nil {
		err = d.welcome(system)
	}
	for err == nil && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case failed := <-system.Failed(): // an edge that was retired, say
			d.Log.Warn("an edge has ended, the others go on", "err", failed)
		}
	}
	if cerr := system.Close(); err == nil {
		err = cerr
	}
	return err
}

// welcome says where everything is and what to try next.
func (d *devCmd) welcome(system *dev.Dev) error {
	r := system.Ready()
	if d.json() {
		return d.document(r)
	}
	d.say("unitgate dev is ready: namespace %s, domain %s, NATS %s", r.Namespace, r.Domain, r.NATS)
	for _, u := range r.Units {
		d.say("  %s  edges %s  %s", u.ID, strings.Join(u.Edges, " "), u.Name)
	}
	at := ""
	if r.NATS != "nats://127.0.0.1:4222" {
		at = " --nats " + r.NATS
	}
	if d.file != "" {
		d.say("\nTry, in another terminal (Ctrl-C ends this):")
		d.say("  unitgate get rules%s", at)
		if len(r.Units) > 0 {
			d.say("  unitgate connect ws://%s/ --router-id 1", r.Units[0].Edges[0])
		}
		return nil
	}
	last := r.Units[len(r.Units)-1]
	d.say("\nThree clients, each in a terminal of its own:")
	for _, id := range []string{"1111", "6249", "8330"} {
		d.say("  unitgate connect ws://%s/ --router-id %s", last.Edges[0], id)
	}
	next := fmt.Sprintf("c%d", system.State().CutoverCount+1)
	d.say("\nMove slots 5998-6380 from unbj to center, and watch 6249 go there:")
	d.say("  unitgate cutover preview --range center=0-6380 --range unbj=6381-9999%s", at)
	d.say("  unitgate cutover check %s%s", next, at)
	d.say("  unitgate cutover start %s --wait%s", next, at)
	d.say("\n`unitgate` stands for `go run ./services/unitgate`. Ctrl-C ends all of it.")
	return nil
}
