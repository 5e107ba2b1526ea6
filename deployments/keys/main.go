// Command keys makes the nkeys that deployments/nats/accounts.conf asks for: for each user a file with its seed, readable
// by its owner only, and nats.env with the public halves and the subjects of the users' inboxes, which are no secret.
//
//	go run ./deployments/keys DIR
//
// Users that have a seed keep it, so that a user can be added, or replaced by removing its file first.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/unitgate/unitgate/events/bus"
)

// roles are the users of accounts.conf; an edge's name ends with its id, or its unit for those that have no own.
var roles = []string{
	"control", "admin", "operator", "observer",
	"edge-center", "edge-center-1", "edge-center-2", "edge-unbj", "edge-unbj-1", "edge-unbj-2",
}

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: go run ./deployments/keys DIR")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "keys:", err)
		os.Exit(1)
	}
}

// write makes what is missing in dir, and nats.env anew.
func write(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var env strings.Builder
	for _, role := range roles {
		file := filepath.Join(dir, role+".nk")
		public, err := public(file)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		name := strings.ToUpper(strings.ReplaceAll(role, "-", "_"))
		// Quoted for shells, to which > is something else; nats-server reads it with the quotes or without.
		fmt.Fprintf(&env, "UNITGATE_NKEY_%s=%s\nUNITGATE_INBOX_%s='%s.>'\n", name, public, name, bus.Inbox(public))
	}
	return os.WriteFile(filepath.Join(dir, "nats.env"), []byte(env.String()), 0o644)
}

// public is the public half of the seed in a file, which is made if it is not there.
func public(file string) (string, error) {
	seed, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		seed, err = create(file)
	}
	if err != nil {
		return "", err
	}
	pair, err := nkeys.ParseDecoratedUserNKey(seed)
	if err != nil {
		return "", errors.New("it holds no seed of a user: remove it, and it is made anew")
	}
	return pair.PublicKey()
}

func create(file string) ([]byte, error) {
	pair, err := nkeys.CreateUser()
	if err != nil {
		return nil, err
	}
	seed, err := pair.Seed()
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = f.Write(seed)
	return seed, errors.Join(err, f.Close())
}
