package slb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds what is read of a file or of an answer.
const maxFile = 16 << 20

// File is a list of load balancers in a YAML or JSON file: [{id, cluster, address}, …]. cluster may be left out where the
// id is recorded. It lists all there are.
type File struct{ Path string }

// Read implements Source.
func (f File) Read(context.Context) ([]Reported, error) {
	in, err := os.Open(f.Path)
	if err != nil {
		return nil, ErrSource.With("%v", err)
	}
	defer func() { _ = in.Close() }()
	b, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	switch {
	case err != nil:
		return nil, ErrSource.With("%v", err)
	case len(b) > maxFile:
		return nil, ErrSource.With("%s has more than %d MiB", f.Path, maxFile>>20)
	}
	var list []struct {
		ID      string `yaml:"id"`
		Cluster string `yaml:"cluster"`
		Address string `yaml:"address"`
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		return nil, ErrSource.With("%s: %v; want a list of {id, cluster, address}", f.Path, err)
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, ErrSource.With("%s: want one list", f.Path)
	}
	out := make([]Reported, 0, len(list))
	for i, l := range list {
		if l.ID == "" || l.Address == "" {
			return nil, ErrSource.With("%s: entry %d: id and address are required", f.Path, i)
		}
		out = append(out, Reported{ID: l.ID, Cluster: l.Cluster, Addresses: []string{l.Address}, Place: fmt.Sprintf("entry %d of %s", i, f.Path), Marked: true})
	}
	return out, nil
}

// Covers implements Source.
func (f File) Covers(string) bool { return true }
