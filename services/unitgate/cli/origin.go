package cli

import (
	"context"
	"fmt"

	"github.com/unitgate/unitgate/services/unitgate/demo"
)

// origin is the demo's origin as a process of its own, for deployments that have nothing to show yet.
type origin struct {
	*cli
	unit, listen string
}

func (c *cli) addOrigin(p parent) {
	o := &origin{cli: c}
	cmd := c.command(p, "demo-origin", "Run the demo's origin of a unit: a WebSocket server that names its unit in every message", o.run)
	cmd.Flag("unit", "unit that it names").Required().PlaceHolder("ID").StringVar(&o.unit)
	cmd.Flag("listen", "address for edges").Required().PlaceHolder("HOST:PORT").StringVar(&o.listen)
}

func (o *origin) run(ctx context.Context) error {
	if err := checkListen("--listen", o.listen); err != nil {
		return err
	}
	server, err := demo.StartOriginAt(o.unit, o.listen)
	if err != nil {
		return err
	}
	o.say("demo origin of unit %s on %s", o.unit, server.Addr())
	<-ctx.Done()
	if err := server.Close(); err != nil {
		return fmt.Errorf("stop the demo origin: %w", err)
	}
	return nil
}
