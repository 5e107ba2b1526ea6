package dev

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/unitgate/unitgate/edge"
	"github.com/unitgate/unitgate/edge/agent"
	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/command"
	"github.com/unitgate/unitgate/services/telemetry"
	"github.com/unitgate/unitgate/services/unitgate/reader"
)

// applyConfig brings the namespace to what the config says. After a second start on the same data there is little to do:
// the rules of a completed cutover stay, since the config's are the baseline.
//
// Commands that were queued in an earlier run are taken meanwhile: what they overtake is planned anew.
func (d *Dev) applyConfig(ctx context.Context) error {
	for {
		if err := d.planAndApply(ctx); !errors.Is(err, events.ErrStaleVersion) || ctx.Err() != nil {
			return err
		}
	}
}

func (d *Dev) planAndApply(ctx context.Context) error {
	ns := d.config.Namespace
	s, err := reader.State(ctx, d.js, ns, d.o.Log)
	if errors.Is(err, events.ErrUnknownNamespace) {
		s, err = events.NewState(), nil
	}
	if err != nil {
		return err
	}
	plan, err := events.PlanConfig(s, d.config, events.PlanOptions{})
	if err != nil {
		return d.locate(err)
	}
	if plan.Empty() {
		return nil
	}
	o, err := command.NewClient(d.nc, ns).Do(ctx, "config", "apply", command.Request{
		Actor: "unitgate dev", Data: events.ApplyConfig{Base: s.ConfigVersion, Config: d.config},
	})
	if err == nil && !o.OK {
		err = o.Error
	}
	return d.locate(err)
}

func (d *Dev) locate(err error) error {
	if d.o.File == nil || err == nil {
		return err
	}
	return d.o.File.Locate(err)
}

// startEdges starts the edges of every unit. The first ones join before the others, because redirects lead to the edge
// of a unit that joined first.
func (d *Dev) startEdges(ctx context.Context) error {
	s, err := reader.State(ctx, d.js, d.config.Namespace, d.o.Log)
	if err != nil {
		return err
	}
	units := d.unitsInOrder(s)
	for n := range d.o.Edges {
		for i, u := range units {
			if err := d.startEdge(ctx, s, u, i, n); err != nil {
				return err
			}
		}
		if n == 0 || n == d.o.Edges-1 {
			if err := d.until(ctx, "the edges join", func() bool { return !slices.ContainsFunc(d.edges, func(e *edge.Edge) bool { return !e.Ready() }) }); err != nil {
				return err
			}
		}
	}
	for i, u := range units {
		unit := Unit{ID: u.ID, Name: u.Name, Edges: []string{}}
		for n := range d.o.Edges {
			unit.Edges = append(unit.Edges, d.edges[n*len(units)+i].Addrs()[0])
		}
		d.ready.Units = append(d.ready.Units, unit)
	}
	return nil
}

// unitsInOrder are the units that get edges, those of the config first and in its order: ports are dealt by it. Of the
// others, which came by commands in an earlier run, those without a cluster can have no edge, and must not keep the rest
// from starting.
func (d *Dev) unitsInOrder(s *events.State) []events.Unit {
	out := slices.Clone(d.config.Units)
	for _, id := range slices.Sorted(maps.Keys(s.Units)) {
		if _, err := clusterOf(s, id); err == nil && !slices.ContainsFunc(out, func(u events.Unit) bool { return u.ID == id }) {
			out = append(out, s.Units[id])
		}
	}
	return out
}

// startEdge starts edge n (from 0) of a unit, which is number i (from 0) among the units.
func (d *Dev) startEdge(ctx context.Context, s *events.State, u events.Unit, i, n int) error {
	cluster, err := clusterOf(s, u.ID)
	if err != nil {
		return err
	}
	ids := edgeIDs(s, cluster, d.o.Edges)
	if n >= len(ids) {
		return fmt.Errorf("cluster %s admits %d edges only, --edges %d wants more", cluster.ID, len(ids), d.o.Edges)
	}
	id, port := ids[n], 0
	if !d.o.FreePorts {
		port = 7001 + 100*(i+1) + n
		if err := free(port, "edge "+id); err != nil {
			return err
		}
	}
	t, err := d.trace(ctx, telemetry.Edge, attribute.String("unitgate.namespace", d.config.Namespace), attribute.String("unitgate.unit", u.ID))
	if err != nil {
		return err
	}
	e, err := edge.New(edge.Config{
		Namespace: d.config.Namespace, Unit: u.ID, Cluster: cluster.ID, ID: id,
		Listen:       []string{net.JoinHostPort("127.0.0.1", strconv.Itoa(port))},
		StateDir:     filepath.Join(d.data, "edges", id),
		NATS:         agent.NATS{URL: d.server.ClientURL()},
		Dev:          agent.Dev{AdvertisedLocations: true, FallbackHost: true},
		Engines:      1,
		Version:      telemetry.Version(),
		CloseTimeout: time.Second,
		Logger:       d.o.Log,
		Tracing:      t.TracerProvider(),
		TraceShare:   t.Handshakes(),
	})
	if err != nil {
		return fmt.Errorf("edge %s: %w", id, err)
	}
	d.runEdge(e)
	return nil
}

// edgeIDs are ids for up to n edges of a cluster: those that it admits, or UNIT-1, UNIT-2, …. One that has retired in an
// earlier run never comes back (R7).
func edgeIDs(s *events.State, c events.Cluster, n int) []string {
	var ids []string
	id := func(i int) string { return fmt.Sprintf("%s-%d", c.Unit, i+1) }
	most := n + len(s.Edges)
	if len(c.Instances) > 0 {
		id, most = func(i int) string { return c.Instances[i] }, len(c.Instances)
	}
	for i := 0; i < most && len(ids) < n; i++ {
		if s.Edges[id(i)].Gone == "" {
			ids = append(ids, id(i))
		}
	}
	return ids
}

// clusterOf is the cluster of a unit: the one that a domain uses, else any.
func clusterOf(s *events.State, unit string) (events.Cluster, error) {
	for _, host := range slices.Sorted(maps.Keys(s.Domains)) {
		if c, ok := s.Clusters[s.Domains[host].Newest().Units[unit].Cluster]; ok {
			return c, nil
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.Clusters)) {
		if s.Clusters[id].Unit == unit {
			return s.Clusters[id], nil
		}
	}
	return events.Cluster{}, fmt.Errorf("unit %s has no cluster, so no edge of it can run: add one to the config", unit)
}

// awaitServing waits until every edge decides by a state that holds all the others, and a driver is in office.
func (d *Dev) awaitServing(ctx context.Context) error {
	s, err := reader.State(ctx, d.js, d.config.Namespace, d.o.Log)
	if err != nil {
		return err
	}
	d.describe(s)
	return d.until(ctx, "the edges and a driver", func() bool {
		for _, e := range d.edges {
			if e.Status(ctx).Installed < s.Seq {
				return false
			}
		}
		return d.control.Leads(d.config.Namespace)
	})
}

// describe fills in what the journal knows.
func (d *Dev) describe(s *events.State) {
	d.state = s
	d.ready.NATS, d.ready.Namespace = d.server.ClientURL(), s.Namespace
	if len(s.UnitTypes) > 0 {
		d.ready.UnitType = s.UnitTypes[0].Name
	}
	if len(d.config.Domains) > 0 {
		d.ready.Domain = d.config.Domains[0].Host
	} else if hosts := slices.Sorted(maps.Keys(s.Domains)); len(hosts) > 0 {
		d.ready.Domain = hosts[0]
	}
}

// until waits for a condition, or for the end of ctx or of an edge.
func (d *Dev) until(ctx context.Context, what string, ok func() bool) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case err := <-d.failed:
			return err
		case <-tick.C:
		}
	}
	return nil
}
