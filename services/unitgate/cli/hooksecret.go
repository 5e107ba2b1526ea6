package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"github.com/choria-io/fisk"

	"github.com/unitgate/unitgate/services/cutover"
)

// hookSecretEnv holds the secret that signs the calls of hooks, where there is no file of it.
const hookSecretEnv = "UNITGATE_HOOK_SECRET"

// maxHookSecret bounds what is read of a secret's file.
const maxHookSecret = 4096

// hookSecret is where the secret comes from that signs the calls of hooks: a file, or the environment. It stands in no
// argument, log or event.
type hookSecret struct{ file string }

func (h *hookSecret) add(cmd *fisk.CmdClause) {
	cmd.Flag("hook-secret-file", "file with the secret that signs the calls of hooks; without it the environment's "+hookSecretEnv).PlaceHolder("FILE").StringVar(&h.file)
}

// caller calls hooks. A file is read again for each call, so that a new secret needs no restart; one that is not there
// at the start is an error.
func (h *hookSecret) caller() (*cutover.HookCaller, error) {
	if h.file == "" {
		secret := []byte(os.Getenv(hookSecretEnv))
		if len(secret) > 0 && len(secret) < cutover.MinHookSecret {
			return nil, usage("%s has %d bytes: at least %d are wanted", hookSecretEnv, len(secret), cutover.MinHookSecret)
		}
		return cutover.NewHookCaller(func() ([]byte, error) { return secret, nil }), nil
	}
	secret, err := h.read()
	if err != nil {
		return nil, usage("--hook-secret-file: %w", err)
	}
	if len(secret) < cutover.MinHookSecret {
		return nil, usage("--hook-secret-file %s: it has %d bytes, at least %d are wanted", h.file, len(secret), cutover.MinHookSecret)
	}
	return cutover.NewHookCaller(h.read), nil
}

// read is the file's content without the line end that editors leave behind it.
func (h *hookSecret) read() ([]byte, error) {
	f, err := os.Open(h.file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxHookSecret+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxHookSecret:
		return nil, fmt.Errorf("%s: more than %d bytes", h.file, maxHookSecret)
	}
	return bytes.TrimRight(b, "\r\n"), nil
}
