// SPDX-License-Identifier: Apache-2.0

package doc

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// maxDocuments bounds a YAML stream.
const maxDocuments = 1000

// ParseYAML reads the documents of a YAML stream; empty ones are left out. Merge keys (<<) are applied.
func ParseYAML(data []byte) ([]*Value, error) {
	if len(data) > MaxBytes {
		return nil, errTooLong
	}
	var out []*Value
	c := yamlConverter{}
	d := yaml.NewDecoder(bytes.NewReader(data))
	for range maxDocuments {
		var n yaml.Node
		err := d.Decode(&n)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading YAML: %w", err)
		}
		if len(n.Content) == 0 || n.Content[0].Tag == "!!null" {
			continue
		}
		v, err := c.value(n.Content[0], "$", 0)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
	}
	return nil, fmt.Errorf("stream has more than %d documents", maxDocuments)
}

type yamlConverter struct{ values int }

func (c *yamlConverter) value(n *yaml.Node, path string, depth int) (*Value, error) {
	c.values++
	v := &Value{Path: path, Line: n.Line}
	switch {
	case depth > MaxDepth:
		return nil, v.Errorf("nested more than %d deep", MaxDepth)
	case c.values > MaxValues:
		return nil, v.Errorf("document has more than %d values", MaxValues)
	}
	switch n.Kind {
	case yaml.AliasNode:
		w, err := c.value(n.Alias, path, depth+1)
		if err != nil {
			return nil, err
		}
		w.Line = n.Line
		return w, nil
	case yaml.SequenceNode:
		v.Kind = Array
		for i, item := range n.Content {
			w, err := c.value(item, itemPath(path, i), depth+1)
			if err != nil {
				return nil, err
			}
			v.Items = append(v.Items, w)
		}
		return v, nil
	case yaml.MappingNode:
		return v, c.object(v, n, depth)
	case yaml.ScalarNode:
		return v, scalar(v, n)
	}
	return nil, v.Errorf("unexpected kind of YAML node")
}

func scalar(v *Value, n *yaml.Node) error {
	v.Text = n.Value
	v.Plain = n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch tag := n.ShortTag(); tag {
	case "!!str", "!!timestamp":
		v.Kind = String
	case "!!null":
		v.Kind, v.Text = Null, ""
	case "!!bool":
		v.Kind = Bool
		if err := n.Decode(&v.True); err != nil {
			return v.Errorf("%q is no boolean", n.Value)
		}
	case "!!int", "!!float":
		v.Kind = Number
	default:
		return v.Errorf("tag %s is not supported", tag)
	}
	return nil
}

// object reads a mapping. What is merged into it fills in what it does not say itself.
func (c *yamlConverter) object(v *Value, n *yaml.Node, depth int) error {
	v.Kind = Object
	var merged []*Value
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, w := n.Content[i], n.Content[i+1]
		if k.Kind != yaml.ScalarNode {
			return v.Errorf("line %d: a key is not a string", k.Line)
		}
		value, err := c.value(w, memberPath(v.Path, k.Value), depth+1)
		if err != nil {
			return err
		}
		if k.ShortTag() == "!!merge" {
			if value.Kind != Array {
				value = List(value)
			}
			merged = append(merged, value.Items...)
			continue
		}
		if seen[k.Value] {
			return value.Errorf("key %q is given twice", k.Value)
		}
		seen[k.Value] = true
		v.Members = append(v.Members, Member{Key: k.Value, Value: value, Line: k.Line})
	}
	for _, m := range merged {
		if m.Kind != Object {
			return v.Errorf("only mappings can be merged, not %s", m.Kind)
		}
		for _, member := range m.Members {
			if !seen[member.Key] {
				seen[member.Key] = true
				v.Members = append(v.Members, member)
			}
		}
	}
	return nil
}
