package cutover

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/unitgate/unitgate/events"
)

// MinHookSecret is the least length of a secret that signs calls, in bytes.
const MinHookSecret = 16

// HookOwn is what one hook has of its own, from where no other role reads it. The zero
// value is nothing.
type HookOwn struct {
	Key []byte // signs its calls instead of the key that follows from the secret of all
	URL string // the whole URL of a hook whose URL in the journal has events.HookSecret in it
}

// sealing is what one call is signed with and where it goes.
type sealing struct {
	url    string
	key    []byte // for HookSignature
	shared []byte // for Signature; empty: not signed that way
}

// sealing finds what a hook's call is signed with. The error says in the journal why it
// cannot be signed: it tells no path and no secret.
func (h *HookCaller) sealing(namespace string, hook events.Hook) (sealing, error) {
	var own HookOwn
	if h.cfg.Own != nil {
		var err error
		if own, err = h.cfg.Own(namespace, hook.Name); err != nil {
			return sealing{}, fmt.Errorf("what the hook has of its own cannot be had: %w", err)
		}
	}
	url, err := fill(hook, own.URL)
	if err != nil {
		return sealing{}, err
	}
	if len(own.Key) > 0 {
		return sealing{url, own.Key, nil}, long(own.Key, "the hook's own key")
	}
	var secret []byte
	if h.cfg.Secret != nil {
		if secret, err = h.cfg.Secret(); err != nil {
			return sealing{}, fmt.Errorf("the secret that signs calls cannot be had: %w", err)
		}
	}
	if len(secret) == 0 {
		return sealing{}, errors.New("start the control plane with --hook-secret-file, --hook-secret-dir or UNITGATE_HOOK_SECRET, so that calls can be signed")
	}
	return sealing{url, []byte(HookKey(secret, namespace, hook.Name)), secret}, long(secret, "the secret that signs calls")
}

func long(secret []byte, what string) error {
	if len(secret) < MinHookSecret {
		return fmt.Errorf("%s has %d bytes, at least %d are wanted", what, len(secret), MinHookSecret)
	}
	return nil
}

// fill is the URL that is called. A secret one has to be what the journal's URL says but
// for the secret: an operator who changes the host in the journal cannot have the secret
// sent there.
func fill(hook events.Hook, secret string) (string, error) {
	before, after, ok := strings.Cut(hook.URL, events.HookSecret)
	switch {
	case !ok:
		return hook.URL, nil
	case secret == "":
		return "", fmt.Errorf("the URL has %s in it: give the control plane the whole URL, in a file of --hook-secret-dir", events.HookSecret)
	case len(secret) < len(before)+len(after) || !strings.HasPrefix(secret, before) || !strings.HasSuffix(secret, after):
		return "", fmt.Errorf("the secret URL that the control plane has is another one than the configuration's, apart from %s", events.HookSecret)
	}
	return secret, nil
}

// HookKey is the key of one hook, which follows from the secret of all and says nothing
// of it: hex of HMAC-SHA256. Its receiver knows this text, and so can verify calls of
// this hook and pass for no other one's.
func HookKey(secret []byte, namespace, hook string) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "unitgate hook key v2\n%s\n%s", namespace, hook)
	return hex.EncodeToString(mac.Sum(nil))
}

// HookSignature is what a receiver compares: hex of the HMAC-SHA256, under the hook's key
// (the bytes of its text), of the method, the hook's whole URL as it was given to the
// control plane, the timestamp and the body, with a line feed between one and the next.
func HookSignature(key []byte, method, url, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s\n%s\n%s\n%s", method, url, timestamp, body)
	return hex.EncodeToString(mac.Sum(nil))
}

// Signature is the first form, for receivers from before the second: hex of the
// HMAC-SHA256, under the secret of all hooks, of the timestamp, a dot and the body. Each
// receiver of it can sign for all others.
func Signature(secret []byte, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	fmt.Fprintf(mac, "%s.%s", timestamp, body)
	return hex.EncodeToString(mac.Sum(nil))
}
