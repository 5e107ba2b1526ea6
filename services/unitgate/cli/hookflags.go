package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/choria-io/fisk"

	"github.com/unitgate/unitgate/events"
	"github.com/unitgate/unitgate/services/cutover"
	"github.com/unitgate/unitgate/services/outbound"
)

// hookSecretEnv holds the secret from which the keys of hooks follow, where there is no
// file of it.
const hookSecretEnv = "UNITGATE_HOOK_SECRET"

// maxHookSecret bounds what is read of a secret's file.
const maxHookSecret = 4096

// devHooks are what hooks of `dev` may call unless it is told otherwise: all that runs on
// the machine of its user, for a first look.
const devHooks = "127.0.0.1,::1,127.0.0.0/8,0.0.0.0/0,::/0"

// hookFlags say whom hooks may call and with which secrets. A secret stands in no
// argument, log or event.
type hookFlags struct{ allow, file, dir string }

func (h *hookFlags) add(cmd *fisk.CmdClause, allow string) {
	f := cmd.Flag("hook-allow", "hosts, addresses and networks that hooks may call, and no others; without it all but loopback, link-local and other special addresses").Envar("UNITGATE_HOOK_ALLOW")
	if allow != "" {
		f = f.Default(allow)
	}
	f.PlaceHolder("HOST|CIDR,…").StringVar(&h.allow)
	h.addSecret(cmd)
	cmd.Flag("hook-secret-dir", "directory with what single hooks have of their own: NAMESPACE.HOOK, a key that signs its calls; NAMESPACE.HOOK.url, the URL of a hook with "+events.HookSecret+" in it").PlaceHolder("DIR").StringVar(&h.dir)
}

func (h *hookFlags) addSecret(cmd *fisk.CmdClause) {
	cmd.Flag("hook-secret-file", "file with the secret from which the keys follow that sign the calls of hooks; without it the environment's "+hookSecretEnv).PlaceHolder("FILE").StringVar(&h.file)
}

// caller calls hooks, by the policy that it also returns. Files are read again for each
// call, so that a new secret needs no restart; one that is named and is not there at the
// start is an error.
func (h *hookFlags) caller() (*cutover.HookCaller, *outbound.Policy, error) {
	to, err := outbound.Parse(h.allow)
	if err != nil {
		return nil, nil, usage("--hook-allow: %w", err)
	}
	if _, err := h.secret(); err != nil {
		return nil, nil, h.wrong(err)
	}
	cfg := cutover.HookConfig{To: to, Secret: h.secret}
	if h.dir != "" {
		if s, err := os.Stat(h.dir); err != nil || !s.IsDir() {
			return nil, nil, usage("--hook-secret-dir %s: it is no directory that can be read", h.dir)
		}
		cfg.Own = h.own
	}
	return cutover.NewHookCaller(cfg), to, nil
}

// secret is what the keys of all hooks follow from; empty if there is none. The error,
// which may get into the journal, names no path.
func (h *hookFlags) secret() (secret []byte, err error) {
	if h.file == "" {
		secret = []byte(os.Getenv(hookSecretEnv))
	} else if secret, err = readSecret(h.file); err != nil {
		return nil, err
	}
	if n := len(secret); n < cutover.MinHookSecret && (n > 0 || h.file != "") {
		return nil, fmt.Errorf("it has %d bytes, at least %d are wanted", n, cutover.MinHookSecret)
	}
	return secret, nil
}

// wrong says of which flag or variable an error of secret is.
func (h *hookFlags) wrong(err error) error {
	if h.file == "" {
		return usage("%s: %w", hookSecretEnv, err)
	}
	return usage("--hook-secret-file %s: %w", h.file, err)
}

// own reads what a hook has of its own. Neither part of a file's name has a dot in it.
// The error, which gets into the journal, names no path.
func (h *hookFlags) own(namespace, hook string) (own cutover.HookOwn, err error) {
	name := namespace + "." + hook
	if own.Key, err = optional(h.dir, name); err != nil {
		return own, err
	}
	url, err := optional(h.dir, name+".url")
	own.URL = strings.TrimSpace(string(url))
	return own, err
}

// optional reads a file of a directory; nil if there is none.
func optional(dir, name string) ([]byte, error) {
	b, err := readSecret(filepath.Join(dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("%s: %w", name, err)
	case len(b) == 0:
		return nil, fmt.Errorf("%s: it is empty", name)
	}
	return b, nil
}

// readSecret is a file's content without the line end that editors leave behind it. The
// error names no path.
func readSecret(file string) ([]byte, error) {
	b, err := readBounded(file)
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		err = path.Err
	}
	if err == nil && len(b) > maxHookSecret {
		err = fmt.Errorf("more than %d bytes", maxHookSecret)
	}
	return bytes.TrimRight(b, "\r\n"), err
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxHookSecret+1))
}
