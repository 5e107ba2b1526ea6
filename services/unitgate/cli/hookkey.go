package cli

import (
	"context"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
)

// hookKey prints the key of one hook, for its receiver: who gives it to a receiver has
// the secret of all, and the receiver has not.
type hookKey struct {
	*cli
	hookFlags
	hook string
}

func (c *cli) addHookKey(p parent) {
	k := &hookKey{cli: c}
	cmd := c.command(p, "hook-key", "Print the key with which one hook's calls are signed, for its receiver", k.run)
	cmd.Arg("hook", "name of the hook").Required().PlaceHolder("NAME").StringVar(&k.hook)
	k.addSecret(cmd)
}

func (k *hookKey) run(context.Context) error {
	if err := events.CheckID(k.hook, "hook"); err != nil {
		return err
	}
	if k.namespace == "" {
		return usage("which namespace? --namespace NAME")
	}
	secret, err := k.secret()
	switch {
	case err != nil:
		return k.wrong(err)
	case len(secret) == 0:
		return usage("from which secret? --hook-secret-file FILE, or the environment's %s", hookSecretEnv)
	}
	key := cutover.HookKey(secret, k.namespace, k.hook)
	if k.json() {
		return k.document(struct {
			Namespace string `json:"namespace"`
			Hook      string `json:"hook"`
			Key       string `json:"key"`
		}{k.namespace, k.hook, key})
	}
	k.say("%s", key)
	return nil
}
