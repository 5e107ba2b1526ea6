package cli

import (
	"context"
	"strings"

	"github.com/unitgate/unitgate/services/dns"
)

// dns shows the names that the control plane publishes: what is wanted, what is there, and how that differs.
func (g *get) dns(ctx context.Context) error {
	b, ns, err := g.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	zones := []dns.Standing{}
	if err := b.ask(ctx, ns, "dns", "show", struct{}{}, &zones); err != nil {
		return err
	}
	if g.name != "" {
		zones = only(zones, g.name)
	}
	if g.json() {
		return g.document(zones)
	}
	if len(zones) == 0 {
		g.say("no active domain has a DNS provider")
		return nil
	}
	t := newTable("ZONE", "NAME", "STATE", "WANTED", "PRESENT")
	for _, z := range zones {
		for _, d := range z.Names {
			t.row(z.Zone.Name, d.Name, d.State, inWords(d.Wanted), inWords(d.There))
		}
	}
	if err := t.write(g.out); err != nil {
		return err
	}
	for _, z := range zones {
		if z.Error != "" {
			g.say("zone %s: %s", z.Zone.Name, z.Error)
		}
		for _, p := range z.Problems {
			g.say("zone %s: %s: %s", z.Zone.Name, p.Name, p.Why)
		}
	}
	return nil
}

func only(zones []dns.Standing, name string) []dns.Standing {
	out := []dns.Standing{}
	for _, z := range zones {
		if z.Zone.Name == name {
			out = append(out, z)
		}
	}
	return out
}

func inWords(sets []dns.Set) string {
	var out []string
	for _, s := range sets {
		out = append(out, s.Type+" "+strings.Join(s.Values, ","))
	}
	return strings.Join(out, "; ")
}
