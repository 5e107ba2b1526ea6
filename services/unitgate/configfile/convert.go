package configfile

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/unitgate/unitgate/events"
)

var decimal = regexp.MustCompile(`^-?(0|[1-9][0-9]*)$`)

// typed reports whether a scalar is not text: a plain whole number, true or false.
func typed(n *yaml.Node) bool {
	if n.Kind != yaml.ScalarNode {
		return false
	}
	switch n.ShortTag() {
	case "!!int":
		return decimal.MatchString(n.Value)
	case "!!bool":
		return true
	}
	return false
}

// json converts the document. asText is a scalar that is written as text whatever it looks like, or nil.
func (f *File) json(asText *yaml.Node) ([]byte, error) {
	c := converter{file: f, asText: asText}
	if err := c.value(f.root, "", 0); err != nil {
		return nil, err
	}
	return c.out.Bytes(), nil
}

type converter struct {
	file   *File
	asText *yaml.Node
	out    bytes.Buffer
}

func (c *converter) refuse(n *yaml.Node, format string, args ...any) error {
	return c.file.at(n.Line, ErrBadYAML.With(format, args...))
}

// value writes a node as JSON; path is its field path.
func (c *converter) value(n *yaml.Node, path string, depth int) error {
	switch {
	case depth > maxDepth:
		return c.refuse(n, "nested deeper than %d", maxDepth)
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return c.refuse(n, "anchors and aliases are not supported: write the value out")
	}
	switch n.Kind {
	case yaml.MappingNode:
		if n.ShortTag() == "!!map" {
			return c.mapping(n, path, depth)
		}
	case yaml.SequenceNode:
		if n.ShortTag() == "!!seq" {
			return c.sequence(n, path, depth)
		}
	case yaml.ScalarNode:
		return c.scalar(n)
	}
	return c.refuse(n, "the tag %s is not supported", n.Tag)
}

func (c *converter) mapping(n *yaml.Node, path string, depth int) error {
	seen := map[string]int{} // key -> line
	c.out.WriteByte('{')
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i]
		if err := c.key(key); err != nil {
			return err
		}
		at := strings.TrimPrefix(path+"."+key.Value, ".")
		if line, ok := seen[key.Value]; ok {
			e := events.ErrDuplicateField.With("the key %q stands in line %d already", key.Value, line)
			return c.file.at(key.Line, e.At(at))
		}
		seen[key.Value] = key.Line
		if i > 0 {
			c.out.WriteByte(',')
		}
		c.text(key.Value)
		c.out.WriteByte(':')
		if err := c.value(n.Content[i+1], at, depth+1); err != nil {
			return err
		}
	}
	c.out.WriteByte('}')
	return nil
}

// key refuses keys that are no plain text.
func (c *converter) key(n *yaml.Node) error {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		return c.refuse(n, "anchors and aliases are not supported: write the key out")
	case n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null":
		return c.refuse(n, "a key must be text")
	case n.ShortTag() == "!!merge":
		return c.refuse(n, "merge keys (<<) are not supported: write the values out")
	}
	return nil
}

func (c *converter) sequence(n *yaml.Node, path string, depth int) error {
	c.out.WriteByte('[')
	for i, v := range n.Content {
		if i > 0 {
			c.out.WriteByte(',')
		}
		if err := c.value(v, path+"["+strconv.Itoa(i)+"]", depth+1); err != nil {
			return err
		}
	}
	c.out.WriteByte(']')
	return nil
}

func (c *converter) scalar(n *yaml.Node) error {
	if n.Style&yaml.TaggedStyle != 0 && n.ShortTag() != "!!str" {
		return c.refuse(n, "the tag %s is not supported", n.Tag)
	}
	switch {
	case n == c.asText:
		c.text(n.Value)
	case n.ShortTag() == "!!null":
		c.out.WriteString("null")
	case !typed(n):
		c.text(n.Value)
	case n.ShortTag() == "!!bool":
		c.out.WriteString(strconv.FormatBool(strings.EqualFold(n.Value, "true")))
	default:
		c.out.WriteString(n.Value)
	}
	return nil
}

func (c *converter) text(s string) {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // every string marshals
	}
	c.out.Write(b)
}
