// Package bus says how processes of ours connect to NATS: who they are, where their answers come, and whether anybody in
// between can listen. Its functions keep nothing and may be used by any goroutine.
package bus

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// ErrExposed: every user of the machine may read a file that holds a seed.
var ErrExposed = errors.New("every user of this machine may read it, and sign in with it")

// checkMode refuses a secret that others than its owner and its group may read. A group is how services get theirs.
func checkMode(file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o006 != 0 {
		return fmt.Errorf("mode %04o: %w: chmod o-rw %s, and replace the seed if others had access", mode, ErrExposed, file)
	}
	return nil
}

// WithSeed are the options of a user whose seed a file holds. The errors never show what the file holds.
func WithSeed(file string) ([]nats.Option, error) {
	if err := checkMode(file); err != nil {
		return nil, err
	}
	sign, err := nats.NkeyOptionFromSeed(file)
	if err != nil {
		return nil, errors.New("the file holds no seed that can be used")
	}
	seed, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pair, err := nkeys.ParseDecoratedNKey(seed)
	if err != nil {
		return nil, errors.New("the file holds no seed that can be used")
	}
	defer pair.Wipe()
	public, err := pair.PublicKey()
	if err != nil {
		return nil, errors.New("the file holds no seed that can be used")
	}
	return []nats.Option{sign, nats.CustomInboxPrefix(Inbox(public))}, nil
}

// WithCredentials are the options of a user whose JWT and seed a file holds.
func WithCredentials(file string) ([]nats.Option, error) {
	if err := checkMode(file); err != nil {
		return nil, err
	}
	o := []nats.Option{nats.UserCredentials(file)}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if public := subject(text); public != "" {
		o = append(o, nats.CustomInboxPrefix(Inbox(public)))
	}
	return o, nil
}

// subject is the public key of the user whom a JWT is about; "" if there is none that can be read.
func subject(creds []byte) string {
	token, err := nkeys.ParseDecoratedJWT(creds)
	if err != nil {
		return ""
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return ""
	}
	claims, err := base64.RawURLEncoding.DecodeString(parts[1])
	var c struct {
		Subject string `json:"sub"`
	}
	if err != nil || json.Unmarshal(claims, &c) != nil || !nkeys.IsValidPublicUserKey(c.Subject) {
		return ""
	}
	return c.Subject
}

// Inbox is the prefix of the inboxes of the user with this public key. It is a user's own, so that permissions can keep
// users of one account from hearing each other's answers: "_INBOX.<key>.>" in the servers' files, or
// "_INBOX.{{subject()}}.>" in JWTs.
func Inbox(public string) string { return "_INBOX." + public }

// InPlain tells whether a connection goes beyond this machine without TLS, and where to.
func InPlain(nc *nats.Conn) (addr string, plain bool) {
	state, err := nc.TLSConnectionState()
	if err == nil && state.Version >= tls.VersionTLS12 {
		return "", false
	}
	addr = nc.ConnectedAddr()
	return addr, beyond(addr)
}

// beyond tells whether an address is another machine's, as far as that can be told. There is none while a client is not
// connected, or is within the server's process.
func beyond(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return ip == nil || !ip.IsLoopback()
}

// WarnPlain is what a process does when it has connected: it logs if that is in plain.
func WarnPlain(log *slog.Logger) nats.ConnHandler {
	return func(nc *nats.Conn) {
		if addr, plain := InPlain(nc); plain {
			log.Warn(PlainWarning, "addr", addr)
		}
	}
}

// PlainWarning is what InPlain means.
const PlainWarning = "NATS is spoken to without TLS beyond this machine: who is in between reads all of it, and can send commands in this user's place. " +
	"Give the servers tls.conf, and this process --tls-ca FILE"
