// SPDX-License-Identifier: Apache-2.0

package confcom

import (
	"bytes"
	"encoding/json"
	"slices"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// definitionKeys are those of a container in a policy.
var definitionKeys = []string{
	"allow_elevated", "allow_stdio_access", "capabilities", "command", "env_rules", "exec_processes", "id", "layers", "mounts",
	"name", "no_new_privileges", "seccomp_profile_sha256", "signals", "user", "working_dir",
}

// DetectDefinitions says whether a document looks like container definitions.
func DetectDefinitions(v *doc.Value) bool {
	if v.Kind == doc.Array {
		return len(v.Items) > 0 && v.Items[0].Get("layers") != nil
	}
	return v.Get("layers") != nil
}

// ReadDefinitions reads one container definition, or a list of them.
func ReadDefinitions(root *doc.Value) (spec.Group, error) {
	g := spec.Group{Platform: spec.PlatformACI, Origin: root.Path}
	list := []*doc.Value{root}
	if root.Kind == doc.Array {
		list = root.Items
	}
	if len(list) == 0 {
		return g, root.Errorf("there are no containers")
	}
	for _, d := range list {
		if d.Kind != doc.Object {
			return g, d.Errorf("%s stands where a container is expected", d.Kind)
		}
		kept := *d
		kept.Members = nil
		for _, m := range d.Members {
			switch {
			case m.Key == "platform":
				if m.Value.Kind != doc.String || m.Value.Text != "linux/amd64" {
					return g, m.Value.Errorf("the platform is not linux/amd64")
				}
			case !slices.Contains(definitionKeys, m.Key):
				return g, m.Value.Errorf("key %q is not known, and may change what runs", m.Key)
			default:
				kept.Members = append(kept.Members, m)
			}
		}
		name, err := text(d, "name")
		if err != nil {
			return g, err
		}
		data, err := encode(&kept)
		if err != nil {
			return g, d.Errorf("%w", err)
		}
		g.Definitions = append(g.Definitions, spec.Definition{Name: name, Path: d.Path, JSON: data})
	}
	return g, nil
}

// encode writes a value as JSON again.
func encode(v *doc.Value) ([]byte, error) {
	var b bytes.Buffer
	switch v.Kind {
	case doc.Object:
		b.WriteByte('{')
		for i, m := range v.Members {
			if i > 0 {
				b.WriteByte(',')
			}
			key, err := json.Marshal(m.Key)
			if err != nil {
				return nil, err
			}
			value, err := encode(m.Value)
			if err != nil {
				return nil, err
			}
			b.Write(key)
			b.WriteByte(':')
			b.Write(value)
		}
		b.WriteByte('}')
	case doc.Array:
		b.WriteByte('[')
		for i, item := range v.Items {
			if i > 0 {
				b.WriteByte(',')
			}
			value, err := encode(item)
			if err != nil {
				return nil, err
			}
			b.Write(value)
		}
		b.WriteByte(']')
	case doc.String:
		return json.Marshal(v.Text)
	case doc.Number:
		return []byte(v.Text), nil
	case doc.Bool:
		return json.Marshal(v.True)
	default:
		return []byte("null"), nil
	}
	return b.Bytes(), nil
}
