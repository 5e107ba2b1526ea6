//go:build linux

package main

import (
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// options say what to compare.
type options struct {
	phases, targets []string
	rounds          int
	idle            int // sessions
	crowd           int // sessions of the phase idle100k; 0: it is not run
	idleTLS         int // sessions
	slow            int // sessions
	slowMB          int // MiB that wait for each
	talking         int // sessions of the echo phases
	evict           int // sessions of the smaller eviction; a ninth of them is evicted
	evictBoth       int // evicted from two edges
	duration        time.Duration
	settle          time.Duration
	threads         int
	bufsize         int // of HAProxy
	json            string
	pprof           string // directory
	unitgate        string // binary; "": built
	nginx, haproxy  string // binaries; "": looked for

	files int // descriptors that a process may have
}

const (
	targetUnitgate = "unitgate"
	targetNginx    = "nginx"
	targetHAProxy  = "haproxy"
	targetDirect   = "direct"
	targetObserved = "observed" // unitgate with traces of 1 % of the handshakes, and metrics that are read
)

var allTargets = []string{targetUnitgate, targetObserved, targetNginx, targetHAProxy, targetDirect}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	f := flag.NewFlagSet("compare", flag.ContinueOnError)
	f.SetOutput(stderr)
	chosen := f.String("phases", "", "phases to run, of: "+strings.Join(phaseNames(), ",")+" (all)")
	against := f.String("targets", "", "what to measure, of: "+strings.Join(allTargets, ",")+" (all that are installed, but for "+targetObserved+")")
	f.IntVar(&o.rounds, "rounds", 5, "how often to run every phase on every target, in turn")
	f.IntVar(&o.idle, "idle", 9000, "sessions of the phase idle; beyond 9000 on several processes of each kind")
	f.IntVar(&o.crowd, "crowd", 0, "sessions of the phase "+phaseCrowd+", which runs once, if this is given (100000), on several processes of each kind; with 40 KB of memory for each")
	f.IntVar(&o.idleTLS, "tls-idle", 5000, "sessions of the phase tlsidle")
	f.IntVar(&o.talking, "sessions", 1000, "sessions of the phases echo5k, echo20k and closed")
	f.IntVar(&o.slow, "slow", 1000, "sessions of the phase slow")
	f.IntVar(&o.slowMB, "slow-mb", 4, "MiB that wait for each slow reader")
	f.IntVar(&o.evict, "evict", 9000, "sessions of the phase evict, of which a ninth is evicted")
	f.IntVar(&o.evictBoth, "evict-both", 10_000, "sessions that the phase evict2 evicts from two edges")
	f.DurationVar(&o.duration, "duration", 4*time.Second, "length of a measurement")
	f.DurationVar(&o.settle, "settle", 5*time.Second, "time between the last handshake and the reading of memory")
	f.IntVar(&o.threads, "threads", 2, "workers or threads of every proxy")
	f.IntVar(&o.bufsize, "haproxy-bufsize", 16384, "HAProxy's tune.bufsize; larger ones make bulk cheaper and slow readers dearer")
	f.StringVar(&o.json, "json", "", "file for all that was measured")
	f.StringVar(&o.pprof, "pprof", "", "directory for CPU profiles of the edges while they are measured (which slows them)")
	f.StringVar(&o.unitgate, "unitgate", "", "unitgate binary (built from this tree)")
	f.StringVar(&o.nginx, "nginx", "", "nginx binary (looked for)")
	f.StringVar(&o.haproxy, "haproxy", "", "HAProxy binary (looked for)")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	var err error
	if o.phases, err = choose("phase", *chosen, phaseNames()); err != nil {
		return nil, err
	}
	if o.targets, err = choose("target", *against, allTargets); err != nil {
		return nil, err
	}
	if *against == "" {
		o.targets = slices.DeleteFunc(slices.Clone(o.targets), func(name string) bool { return name == targetObserved })
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("what is %q? See -help", f.Arg(0))
	}
	for name, n := range map[string]int{
		"-rounds": o.rounds, "-idle": o.idle, "-tls-idle": o.idleTLS, "-sessions": o.talking, "-slow": o.slow, "-slow-mb": o.slowMB, "-threads": o.threads,
		"-evict": o.evict, "-evict-both": o.evictBoth, "-haproxy-bufsize": o.bufsize,
	} {
		if n < 1 {
			return nil, fmt.Errorf("%s %d: want 1 or more", name, n)
		}
	}
	if o.duration < 100*time.Millisecond || o.settle < 0 {
		return nil, fmt.Errorf("-duration %v, -settle %v: want 100ms or more, 0 or more", o.duration, o.settle)
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return nil, fmt.Errorf("descriptor limit: %w", err)
	}
	o.files = int(min(limit.Max, 1<<20))
	if o.idleTLS > o.perProxy() {
		return nil, fmt.Errorf("-tls-idle %d: want %d or less, which one process can take", o.idleTLS, o.perProxy())
	}
	return o, o.checkCrowd(*chosen != "")
}

const (
	phaseCrowd   = "idle100k"
	mostCrowd    = 200_000
	crowdMember  = 40 << 10 // bytes for a session of it: four sockets, nginx's share, and both ends
	crowdReserve = 1 << 30  // bytes to be left
)

// checkCrowd leaves the phase out that nobody asked for, and refuses one for which the machine is too small.
func (o *options) checkCrowd(chosen bool) error {
	want := slices.Contains(o.phases, phaseCrowd)
	switch {
	case o.crowd == 0 && want && chosen && len(o.phases) == 1:
		return fmt.Errorf("the phase %s needs a number of sessions: -crowd 100000", phaseCrowd)
	case o.crowd == 0:
		o.phases = slices.DeleteFunc(slices.Clone(o.phases), func(name string) bool { return name == phaseCrowd })
		return nil
	case o.crowd < 0 || o.crowd > mostCrowd:
		return fmt.Errorf("-crowd %d: want 1 to %d", o.crowd, mostCrowd)
	}
	kib, err := field("/proc/meminfo", "MemAvailable:", 1)
	if err != nil {
		return err
	}
	if need := int64(o.crowd)*crowdMember + crowdReserve; kib<<10 < need {
		return fmt.Errorf("-crowd %d: needs %d MiB of memory, %d MiB are available", o.crowd, need>>20, kib>>10)
	}
	return nil
}

// perProxy is the number of sessions that one proxy process takes, with two descriptors each and some to spare.
func (o *options) perProxy() int { return min(9000, (o.files-1000)/2) }

// choose reads a list of names; they keep the order of all.
func choose(what, list string, all []string) ([]string, error) {
	if list == "" {
		return all, nil
	}
	want := strings.Split(list, ",")
	for _, name := range want {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("there is no %s %q, only %s", what, name, strings.Join(all, ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !slices.Contains(want, name) }), nil
}
