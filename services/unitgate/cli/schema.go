package cli

import (
	"context"
	"io"

	"github.com/unitgate/unitgate/services/unitgate/configfile"
)

// addSchema adds the command that prints what editors need; it asks nobody.
func (c *cli) addSchema(p parent) {
	c.command(p, "schema", "Print the JSON Schema of the config file, for editors", func(context.Context) error {
		_, err := io.WriteString(c.raw, configfile.Schema())
		return err
	})
}
