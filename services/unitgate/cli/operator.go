package cli

import (
	"context"

	"github.com/unitgate/unitgate/services/unitgate/connect"
)

// operator holds the arguments of the commands for one edge.
type operator struct {
	*cli
	edge, reason string
}

func (c *cli) addOperator(p parent) {
	o := &operator{cli: c}
	retire := c.command(p, "edge-retire", "Declare an edge gone for good; its id never comes back", o.retire)
	retire.Arg("id", "the edge").Required().StringVar(&o.edge)
	retire.Flag("reason", "goes into the journal").StringVar(&o.reason)
}

func (o *operator) retire(ctx context.Context) error {
	return o.simple(ctx, "edge", "retire", map[string]string{"id": o.edge}, "edge "+o.edge+" is retired")
}

// simple sends a command of which there is nothing to show but that it took effect.
func (o *operator) simple(ctx context.Context, entity, verb string, data map[string]string, done string) error {
	b, ns, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	out, err := b.do(ctx, ns, entity, verb, o.reason, data)
	if err != nil {
		return err
	}
	o.say("%s, at sequence %d", done, out.Seq)
	return o.print(map[string]any{"ok": true, "seq": out.Seq})
}

func (c *cli) addConnect(p parent) {
	x := &connect.Client{Out: c.out, ErrOut: c.err}
	cmd := c.command(p, "connect", "A WebSocket client that follows redirects and comes back when it is closed", func(ctx context.Context) error {
		if err := connect.Check(x.URL); err != nil {
			return usage("%w", err)
		}
		if c.json() {
			return usage("connect prints text only: leave out -o json")
		}
		return x.Run(ctx)
	})
	cmd.Arg("url", "ws, wss, http or https").Required().StringVar(&x.URL)
	cmd.Flag("router-id", "sent as the header routerId").PlaceHolder("ID").StringVar(&x.RouterID)
	cmd.Flag("unit-type", "sent as the header unitType").PlaceHolder("NAME").StringVar(&x.UnitType)
}
