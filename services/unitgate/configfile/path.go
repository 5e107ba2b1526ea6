package configfile

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// find follows a field path of package events into the document: "units[1].id". A bracket may also hold the id, host or
// name of an entry instead of its index: "clusters[ws-hz-2].unit". It returns the node at the end of the path, a key
// for what stands behind one, or, with exact false, the deepest one on the way: a missing field is
// reported where it is missing.
func (f *File) find(path string) (at *yaml.Node, exact bool) {
	at = f.root
	n := f.root
	for path != "" {
		key, value, rest := step(n, path)
		if value == nil {
			return at, false
		}
		at, n, path = key, value, rest
	}
	if n.Kind == yaml.ScalarNode {
		at = n
	}
	return at, true
}

// step takes one step of a path: the node to name in errors, the node to go on from, and the rest of the path.
func step(n *yaml.Node, path string) (key, value *yaml.Node, rest string) {
	switch n.Kind {
	case yaml.MappingNode:
		path = strings.TrimPrefix(path, ".")
		best := -1 // the longest key wins, so that keys with dots are found
		for i := 0; i < len(n.Content); i += 2 {
			k := n.Content[i].Value
			if r, ok := strings.CutPrefix(path, k); ok && (r == "" || r[0] == '.' || r[0] == '[') && (best < 0 || len(k) > len(n.Content[best].Value)) {
				best, rest = i, r
			}
		}
		if best >= 0 {
			return n.Content[best], n.Content[best+1], rest
		}
	case yaml.SequenceNode:
		name, rest, ok := strings.Cut(strings.TrimPrefix(path, "["), "]")
		if i := entry(n, name); ok && i >= 0 {
			return n.Content[i], n.Content[i], rest
		}
	}
	return nil, nil, ""
}

// entry is the index of the entry of a list with this index, id, host or name; -1 if there is none.
func entry(n *yaml.Node, name string) int {
	if i, err := strconv.Atoi(name); err == nil && i >= 0 && i < len(n.Content) {
		return i
	}
	return slices.IndexFunc(n.Content, func(v *yaml.Node) bool {
		for i := 0; v.Kind == yaml.MappingNode && i < len(v.Content); i += 2 {
			if k := v.Content[i].Value; (k == "id" || k == "host" || k == "name") && v.Content[i+1].Value == name {
				return true
			}
		}
		return false
	})
}
