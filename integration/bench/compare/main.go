//go:build linux

// Compare measures the edge against the proxies that people would use instead: nginx and HAProxy, as far as they are
// installed. It starts each with a config of its own (nginx.conf, haproxy.cfg in this directory), between one load
// generator and one origin, and runs the same phases on all of them in turn, several rounds. The edge is the unitgate
// binary, fed by NATS and a control plane. Everything listens on loopback and ends with the program.
//
//	go run ./integration/bench/compare -phases echo20k -rounds 3 -targets unitgate,nginx
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/unitgate/unitgate/integration/bench/crew"
	"github.com/unitgate/unitgate/integration/bench/load"
	"github.com/unitgate/unitgate/integration/bench/origin"
)

func main() { os.Exit(start()) }

// start is main with an exit code; tests call it, too, to be the crew of a comparison.
func start() int {
	if len(os.Args) > 2 && os.Args[1] == crew.RoleArg {
		return role(os.Args[2], os.Args[3:])
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, os.Args[1:], os.Stdout, os.Stderr)
}

const (
	roleLoad   = "load"
	roleOrigin = "origin"
)

// role is what a process of the crew does until its input ends.
func role(name string, args []string) int {
	var err error
	switch name {
	case roleLoad:
		err = load.Serve(os.Stdin, os.Stdout)
	case roleOrigin:
		err = origin.Serve(os.Stdin, os.Stdout, args)
	default:
		err = fmt.Errorf("there is no role %q", name)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

// run runs a comparison. Exit codes: 0 done; 1 failed; 2 wrong usage; 130 interrupted.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintln(stderr, "compare:", err)
		return 2
	}
	report, err := compare(ctx, o, stderr)
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "compare: interrupted")
		return 130
	}
	if err != nil {
		fmt.Fprintln(stderr, "compare:", err)
		return 1
	}
	report.print(stdout)
	if o.json != "" {
		if err := report.write(o.json); err != nil {
			fmt.Fprintln(stderr, "compare:", err)
			return 1
		}
	}
	return 0
}
