package cli

import (
	"context"
	"fmt"

	"github.com/unitgate/unitgate/services/unitgate/connect"
)

// operator holds the arguments of the commands about edges.
type operator struct {
	*cli
	edges  []string
	reason string
}

func (c *cli) addOperator(p parent) {
	o := &operator{cli: c}
	retire := c.command(p, "edge-retire", "Declare edges gone for good; their ids never come back", o.retire)
	retire.Arg("id", "the edges").Required().StringsVar(&o.edges)
	retire.Flag("reason", "goes into the journal").StringVar(&o.reason)
}

func (o *operator) retire(ctx context.Context) error {
	b, ns, err := o.open(ctx)
	if err != nil {
		return err
	}
	defer b.close()
	var last uint64
	for i, id := range o.edges { // each is an event of its own: those before a refusal are retired
		out, err := b.do(ctx, ns, "edge", "retire", o.reason, map[string]string{"id": id})
		if err != nil {
			if i > 0 {
				return fmt.Errorf("edge %s, after %d that are retired: %w", id, i, err)
			}
			return err
		}
		last = out.Seq
		o.say("edge %s is retired, at sequence %d", id, out.Seq)
	}
	return o.print(map[string]any{"ok": true, "seq": last})
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
