// Command schema derives two documents from the Go types and their comments: the JSON Schema of the config file, for
// editors, and the AsyncAPI document of everything that goes over NATS. What it writes is committed; a test fails when it
// is stale. Run it from anywhere in the module:
//
//	go run ./services/unitgate/schema
//
// What the types do not say (which texts are allowed, what may not be left out) stands in limits.go; tests hold that
// against what the code accepts and against real messages.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// The documents, in the module.
const (
	configFile = "services/unitgate/configfile/config.schema.json"
	asyncFile  = "events/asyncapi.json"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintf(os.Stderr, "schema: %v\n", err)
		os.Exit(1)
	}
}

func run() error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	made, err := documents(root)
	if err != nil {
		return err
	}
	for name, text := range made {
		if err := os.WriteFile(filepath.Join(root, name), text, 0o644); err != nil { //nolint:gosec // everybody may read it
			return err
		}
	}
	return nil
}

// documents are both of them, by their names in the module.
func documents(root string) (map[string][]byte, error) {
	c, err := readComments(root, "events", "events/routing", "services/command", "services/cutover", "services/dns")
	if err != nil {
		return nil, err
	}
	config, err := encode(configSchema(c))
	if err != nil {
		return nil, err
	}
	async, err := encode(asyncAPI(c))
	if err != nil {
		return nil, err
	}
	return map[string][]byte{configFile: config, asyncFile: async}, nil
}

func encode(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	err := enc.Encode(v)
	return out.Bytes(), err
}

// moduleRoot is the directory of go.mod, here or above.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	for err == nil {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("run it inside the module: no go.mod here or above")
		}
		dir = filepath.Dir(dir)
	}
	return "", err
}
