package cli

import (
	"context"
	"slices"
	"strings"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/unitgate/slb"
)

// synced is what `slb sync -o json` prints.
type synced struct {
	Namespace string   `json:"namespace"`
	Changes   []string `json:"changes"` // as the plan shows them
	Notes     []string `json:"notes"`   // what differs and is left as it is
	Applied   bool     `json:"applied"`
	Seq       uint64   `json:"seq,omitempty"`
}

type slbSync struct {
	*cli
	from               string
	kube               slb.Kubernetes
	prune, dryRun, yes bool
}

func (c *cli) addSLB(p parent) {
	y := &slbSync{cli: c}
	group := p.Command("slb", "Load balancers")
	cmd := c.command(group, "sync", "Bring the recorded load balancers to what a provider reports, all or nothing. "+
		"A file is a list of {id, cluster, address}. Of a Kubernetes namespace the Services of type LoadBalancer count, with the addresses in their status; the cluster is their annotation or label "+
		slb.ClusterMark+", else that of the recorded load balancer with the same id; the id is "+slb.IDMark+", else the Service's name", y.run)
	cmd.Flag("from", "file:PATH, kubernetes:NAMESPACE or kubernetes:NAMESPACE/SERVICE").Required().PlaceHolder("SOURCE").StringVar(&y.from)
	cmd.Flag("kube-server", "API server; in a pod, its environment says").PlaceHolder("https://HOST:PORT").StringVar(&y.kube.Server)
	cmd.Flag("kube-token-file", "file with the token for it; in a pod, the service account's").PlaceHolder("FILE").StringVar(&y.kube.TokenFile)
	cmd.Flag("kube-ca-file", "file with its certificate authority; in a pod, the service account's").PlaceHolder("FILE").StringVar(&y.kube.CAFile)
	cmd.Flag("prune", "remove recorded ones that the source does not report").UnNegatableBoolVar(&y.prune)
	cmd.Flag("dry-run", "print the difference and change nothing").UnNegatableBoolVar(&y.dryRun)
	cmd.Flag("yes", "do not ask").UnNegatableBoolVar(&y.yes)
}

func (y *slbSync) source() (slb.Source, error) {
	kind, rest, _ := strings.Cut(y.from, ":")
	switch {
	case kind == "file" && rest != "":
		return slb.File{Path: rest}, nil
	case kind == "kubernetes":
		y.kube.Namespace, y.kube.Service, _ = strings.Cut(rest, "/")
		if err := y.kube.Check(); err != nil {
			return nil, usage("--from %q: %w", y.from, err)
		}
		if !strings.HasSuffix(rest, "/") {
			return y.kube, nil
		}
	}
	return nil, usage("--from %q: want file:PATH, kubernetes:NAMESPACE or kubernetes:NAMESPACE/SERVICE", y.from)
}

func (y *slbSync) run(ctx context.Context) error {
	source, err := y.source()
	if err != nil {
		return err
	}
	b, s, err := y.read(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	reported, err := source.Read(ctx)
	if err != nil {
		return err
	}
	want, err := slb.Compare(s.LoadBalancers, reported, source.Covers, y.prune)
	if err != nil {
		return err
	}
	cfg := events.Config{Namespace: s.Namespace, LoadBalancers: append([]events.LoadBalancer{}, want.LoadBalancers...)}
	plan, err := events.PlanConfig(s, cfg, events.PlanOptions{Prune: want.Prune})
	if err != nil {
		return err
	}
	out := synced{Namespace: s.Namespace, Changes: append([]string{}, plan.Lines...), Notes: append([]string{}, want.Notes...)}
	y.say("namespace %s, load balancers of %s:", s.Namespace, y.from)
	y.show(s, plan.Changes)
	for _, n := range want.Notes {
		y.say("  note: %s", n)
	}
	switch {
	case plan.Empty():
		y.say("nothing to change")
		return y.print(out)
	case y.dryRun:
		y.say("dry run: nothing was changed")
		return y.print(out)
	}
	if err := y.ask(ctx, y.yes, false, "apply this?"); err != nil {
		return err
	}
	o, err := b.do(ctx, s.Namespace, "config", "apply", "slb sync from a "+kind(y.from), events.ApplyConfig{Base: s.ConfigVersion, Config: cfg, Prune: want.Prune})
	if err != nil {
		return err
	}
	y.say("applied at sequence %d", o.Seq)
	out.Applied, out.Seq = true, o.Seq
	return y.print(out)
}

// kind is what a source is; where it lies may be too long for a reason.
func kind(from string) string {
	k, _, _ := strings.Cut(from, ":")
	return k
}

// show prints the difference with the values: for people the ids of a plan alone say too little here.
func (y *slbSync) show(s *events.State, ch events.Changes) {
	for _, l := range ch.LoadBalancers {
		was, ok := s.LoadBalancers[l.ID]
		if !ok {
			y.say("  + load balancer %s: %s before %s", l.ID, l.Address, l.Cluster)
			continue
		}
		y.say("  ~ load balancer %s: %s before %s, was %s before %s", l.ID, l.Address, l.Cluster, was.Address, was.Cluster)
	}
	for _, id := range slices.Sorted(slices.Values(ch.Removed.LoadBalancers)) {
		was := s.LoadBalancers[id]
		y.say("  - load balancer %s: %s before %s", id, was.Address, was.Cluster)
	}
}
