package configfile

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"

	"github.com/unitgate/unitgate/events"
)

// lineWidth bounds what stands on one line, in bytes, but for the key in front of it.
const lineWidth = 120

// Format writes a config as the YAML that Parse reads: keys in the order of the format's description, small things on one
// line. Absent parts are left out, so nothing in it is null. Equal configs give equal bytes.
//
// The text is read back before it is returned: an error means that it would not have said the same.
func Format(cfg events.Config) ([]byte, error) {
	want, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("format the config of %q: %w", cfg.Namespace, err)
	}
	root, err := nodeOf(want)
	if err != nil {
		return nil, fmt.Errorf("format the config of %q: %w", cfg.Namespace, err)
	}
	lay(root, 0)
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return nil, fmt.Errorf("format the config of %q: %w", cfg.Namespace, err)
	}
	f, err := Parse("the exported config", out.Bytes())
	if err != nil {
		return nil, fmt.Errorf("format the config of %q: it would not be read again: %w", cfg.Namespace, err)
	}
	if got, err := json.Marshal(f.Config); err != nil || !bytes.Equal(got, want) {
		return nil, fmt.Errorf("format the config of %q: it would be read as another one", cfg.Namespace)
	}
	return out.Bytes(), nil
}

// JSON is the file's content as JSON, which is YAML that Parse reads, too.
func (f *File) JSON() (json.RawMessage, error) { return f.json(nil) }

// nodeOf is the YAML of a JSON document, in the same order, without what is null.
func nodeOf(doc []byte) (*yaml.Node, error) {
	dec := json.NewDecoder(bytes.NewReader(doc))
	dec.UseNumber()
	return next(dec)
}

// next reads one value; nil stands for null.
func next(dec *json.Decoder) (*yaml.Node, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch v := tok.(type) {
	case json.Delim:
		return group(dec, v)
	case string:
		return text(v), nil
	case json.Number:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: v.String()}, nil
	case bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v)}, nil
	}
	return nil, nil //nolint:nilnil // null
}

// text is a string that the encoder quotes where it would be read as something else.
func text(s string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: s} }

// group reads the rest of an object or array.
func group(dec *json.Decoder, open json.Delim) (*yaml.Node, error) {
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	if open == '{' {
		n = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	}
	for dec.More() {
		var key *yaml.Node
		if n.Kind == yaml.MappingNode {
			k, err := next(dec)
			if err != nil {
				return nil, err
			}
			key = k
		}
		v, err := next(dec)
		switch {
		case err != nil:
			return nil, err
		case v == nil:
			continue
		case key != nil:
			n.Content = append(n.Content, key)
		}
		n.Content = append(n.Content, v)
	}
	_, err := dec.Token() // the closing delimiter
	return n, err
}

// lay puts a node on one line if it is small. The file itself and its lists never are.
func lay(n *yaml.Node, depth int) {
	if n.Kind == yaml.ScalarNode {
		return
	}
	if (depth > 1 || depth == 1 && n.Kind == yaml.MappingNode) && levels(n) <= 2 && width(n) <= lineWidth {
		n.Style = yaml.FlowStyle
		return
	}
	for _, c := range n.Content {
		lay(c, depth+1)
	}
}

// levels is how deep a node is nested: 0 for a scalar.
func levels(n *yaml.Node) int {
	deepest := -1
	for _, c := range n.Content {
		deepest = max(deepest, levels(c))
	}
	return deepest + 1
}

// width is about how many bytes a node takes on one line.
func width(n *yaml.Node) int {
	w := len(n.Value) + len(", ")
	for _, c := range n.Content {
		w += width(c)
	}
	return w
}
