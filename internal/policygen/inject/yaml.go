// SPDX-License-Identifier: Apache-2.0

package inject

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// annotation is where a pod for Azure's virtual node carries its policy.
const annotation = "microsoft.containerinstance.virtualnode.ccepolicy"

// Annotation returns a stream of Kubernetes objects with value, a base64 text, as the policy of the workload that origin
// names: Kind/name. It is an annotation of the workload's pod; metadata that is missing on the way is added.
func Annotation(stream []byte, origin, value string) ([]byte, error) {
	out, err := annotate(stream, origin, value)
	if err != nil {
		return nil, fmt.Errorf("writing the policy of %s: %w", origin, err)
	}
	return out, nil
}

func annotate(stream []byte, origin, value string) ([]byte, error) {
	if strings.Trim(value, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") != "" {
		return nil, errors.New("the policy is not in base64")
	}
	pod, err := findPod(stream, origin)
	if err != nil {
		return nil, err
	}
	e := editor{data: stream}
	out, err := e.set(pod, value)
	if err != nil {
		return nil, err
	}
	return out, sameButFor(stream, out, origin, value)
}

// findPod finds the mapping that has metadata and spec of the workload's pod.
func findPod(stream []byte, origin string) (*yaml.Node, error) {
	var found *yaml.Node
	for d := yaml.NewDecoder(bytes.NewReader(stream)); ; {
		var n yaml.Node
		err := d.Decode(&n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		if len(n.Content) == 0 || title(n.Content[0]) != origin {
			continue
		}
		if found != nil {
			return nil, errors.New("two objects have this name")
		}
		found = n.Content[0]
	}
	if found == nil {
		return nil, errors.New("there is no such object in the file by itself")
	}
	for _, path := range [][]string{{"spec", "jobTemplate", "spec", "template"}, {"spec", "template"}} {
		at := found
		for _, key := range path {
			at = child(at, key)
		}
		if at != nil {
			return at, nil
		}
	}
	return found, nil
}

func title(n *yaml.Node) string {
	text := func(n *yaml.Node) string {
		if n == nil {
			return ""
		}
		return n.Value
	}
	return text(child(n, "kind")) + "/" + text(child(child(n, "metadata"), "name"))
}

func child(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// editor changes a text at the places that nodes name.
type editor struct{ data []byte }

// set puts the value into the pod's annotations.
func (e *editor) set(pod *yaml.Node, value string) ([]byte, error) {
	at := pod
	for i, key := range []string{"metadata", "annotations", annotation} {
		next := child(at, key)
		if next == nil || next.Tag == "!!null" && key != annotation {
			if next != nil {
				return nil, fmt.Errorf("line %d: %s is empty; leave it out or fill it", next.Line, key)
			}
			return e.insert(at, []string{"metadata", "annotations", annotation}[i:], value)
		}
		at = next
	}
	return e.replace(at, value)
}

// offset is where a node begins.
func (e *editor) offset(n *yaml.Node) (int, error) {
	pos := 0
	for range n.Line - 1 {
		i := bytes.IndexByte(e.data[pos:], '\n')
		if i < 0 {
			return 0, fmt.Errorf("line %d is not there", n.Line)
		}
		pos += i + 1
	}
	// Columns count characters; what stands before a node on its line is ASCII, or we do not touch it.
	end := pos + n.Column - 1
	if end > len(e.data) || strings.IndexFunc(string(e.data[pos:end]), func(r rune) bool { return r > '~' }) >= 0 {
		return 0, fmt.Errorf("line %d: the place cannot be found", n.Line)
	}
	return end, nil
}

// replace changes a scalar that stands on one line.
func (e *editor) replace(n *yaml.Node, value string) ([]byte, error) {
	start, err := e.offset(n)
	if err != nil {
		return nil, err
	}
	for _, text := range []string{`"` + n.Value + `"`, `'` + n.Value + `'`, n.Value} {
		if text != "" && bytes.HasPrefix(e.data[start:], []byte(text)) && n.Kind == yaml.ScalarNode {
			return splice(e.data, start, start+len(text), `"`+value+`"`), nil
		}
	}
	return nil, fmt.Errorf("line %d: the policy is not a string on one line", n.Line)
}

// insert puts keys, each in the one before, first into a mapping, in the layout of the mapping.
func (e *editor) insert(n *yaml.Node, keys []string, value string) ([]byte, error) {
	if n.Kind != yaml.MappingNode || n.Anchor != "" {
		return nil, fmt.Errorf("line %d: the place for %s is no plain mapping", n.Line, keys[0])
	}
	if n.Style&yaml.FlowStyle != 0 {
		start, err := e.offset(n)
		if err != nil || start >= len(e.data) || e.data[start] != '{' {
			return nil, fmt.Errorf("line %d: the place for %s cannot be found", n.Line, keys[0])
		}
		text := `"` + value + `"`
		for i := len(keys) - 1; i >= 0; i-- {
			text = keys[i] + ": " + text
			if i > 0 {
				text = "{" + text + "}"
			}
		}
		if len(n.Content) > 0 {
			text += ", "
		}
		return splice(e.data, start+1, start+1, text), nil
	}
	first, err := e.offset(n.Content[0])
	if err != nil {
		return nil, err
	}
	line := bytes.LastIndexByte(e.data[:first], '\n') + 1
	indent := string(e.data[line:first])
	if strings.Trim(indent, " ") != "" {
		return nil, fmt.Errorf("line %d: the place for %s does not begin a line", n.Content[0].Line, keys[0])
	}
	end := "\n"
	if bytes.Contains(e.data, []byte("\r\n")) {
		end = "\r\n"
	}
	var b strings.Builder
	for i, key := range keys {
		b.WriteString(indent + strings.Repeat("  ", i) + key + ":")
		if i == len(keys)-1 {
			b.WriteString(` "` + value + `"`)
		}
		b.WriteString(end)
	}
	return splice(e.data, line, line, b.String()), nil
}

// sameButFor makes sure that the change did what it should: the policy is there, and everything else as before.
func sameButFor(before, after []byte, origin, value string) error {
	pod, err := findPod(after, origin)
	if err != nil {
		return fmt.Errorf("reading the result: %w", err)
	}
	if got := child(child(child(pod, "metadata"), "annotations"), annotation); got == nil || got.Value != value {
		return errors.New("the policy would not be where it belongs")
	}
	a, errA := stripped(before)
	b, errB := stripped(after)
	if errA != nil || errB != nil || !reflect.DeepEqual(a, b) {
		return errors.New("the change would reach further than the policy")
	}
	return nil
}

// stripped are the documents of a stream without policies, and without what may hold nothing but one.
func stripped(stream []byte) ([]any, error) {
	var list []any
	for d := yaml.NewDecoder(bytes.NewReader(stream)); ; {
		var v any
		err := d.Decode(&v)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		list = append(list, strip(v))
	}
}

func strip(v any) any {
	switch v := v.(type) {
	case map[string]any:
		delete(v, annotation)
		for k, x := range v {
			v[k] = strip(x)
			if m, ok := v[k].(map[string]any); ok && len(m) == 0 && (k == "annotations" || k == "metadata") {
				delete(v, k)
			}
		}
	case []any:
		for i := range v {
			v[i] = strip(v[i])
		}
	}
	return v
}
