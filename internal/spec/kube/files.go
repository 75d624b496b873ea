// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// projection is where files of a volume come from, and how they are made.
type projection struct {
	kind, name string // of the object
	items      []*doc.Value
	listed     bool // items are given
	mode       uint32
	optional   bool
}

// content reads the files of a volume of one of the kinds that cannot be written.
func (p *pod) content(kind string, v *doc.Value) ([]spec.File, error) {
	mode, err := fileMode(v, "defaultMode", 0)
	if err != nil {
		return nil, err
	}
	switch kind {
	case "configMap":
		return p.objectFiles(v, "ConfigMap", "name", mode)
	case "secret":
		return p.objectFiles(v, "Secret", "secretName", mode)
	case "downwardAPI":
		if err := checkKeys(v, "items", "defaultMode"); err != nil {
			return nil, err
		}
		return p.downward(v, mode)
	}
	if err := checkKeys(v, "sources", "defaultMode"); err != nil {
		return nil, err
	}
	sources, err := items(v, "sources")
	if err != nil {
		return nil, err
	}
	var out []spec.File
	for _, s := range sources {
		files, err := p.source(s, mode)
		if err != nil {
			return nil, err
		}
		out = append(out, files...)
	}
	return out, nil
}

// source reads one source of a projected volume.
func (p *pod) source(v *doc.Value, mode uint32) ([]spec.File, error) {
	if v.Kind != doc.Object || len(v.Members) != 1 {
		return nil, v.Errorf("a source of a projected volume is of exactly one kind")
	}
	switch m := v.Members[0]; m.Key {
	case "configMap":
		return p.objectFiles(m.Value, "ConfigMap", "name", mode)
	case "secret":
		return p.objectFiles(m.Value, "Secret", "name", mode)
	case "downwardAPI":
		if err := checkKeys(m.Value, "items"); err != nil {
			return nil, err
		}
		return p.downward(m.Value, mode)
	default:
		return nil, m.Value.Errorf("source %s of a projected volume is not supported: only a cluster has it", m.Key)
	}
}

// objectFiles makes files of a ConfigMap or Secret that stands beside the pod.
func (p *pod) objectFiles(v *doc.Value, kind, key string, mode uint32) ([]spec.File, error) {
	if err := checkKeys(v, key, "items", "optional", "defaultMode"); err != nil {
		return nil, err
	}
	source := projection{kind: kind, mode: mode, listed: !v.Get("items").IsNull()}
	var err error
	if source.name, err = text(v, key); err != nil {
		return nil, err
	}
	if source.optional, err = truth(v, "optional", false); err != nil {
		return nil, err
	}
	if source.items, err = items(v, "items"); err != nil {
		return nil, err
	}
	object := p.find(kind, source.name)
	if object == nil {
		if source.optional {
			return nil, nil
		}
		return nil, v.Errorf("%s %q is not given, so what its files hold is not known: put it beside the pod", kind, source.name)
	}
	return source.files(object)
}

func (s projection) files(object *values) ([]spec.File, error) {
	var out []spec.File
	if !s.listed {
		keys := make([]string, 0, len(object.data))
		for key := range object.data {
			keys = append(keys, key)
		}
		slices.Sort(keys)
		for _, key := range keys {
			out = append(out, spec.File{Path: key, Content: spec.Content(object.data[key]), Mode: s.mode})
		}
		return out, nil
	}
	for _, item := range s.items {
		if err := checkKeys(item, "key", "path", "mode"); err != nil {
			return nil, err
		}
		key, err := text(item, "key")
		if err != nil {
			return nil, err
		}
		f := spec.File{}
		if f.Path, err = text(item, "path"); err != nil {
			return nil, err
		}
		if f.Mode, err = fileMode(item, "mode", s.mode); err != nil {
			return nil, err
		}
		data, ok := object.data[key]
		if !ok && s.optional {
			continue
		}
		if !ok {
			return nil, item.Errorf("%s %q has no key %q", s.kind, s.name, key)
		}
		f.Content = spec.Content(data)
		out = append(out, f)
	}
	return out, nil
}

// fileMode reads permission bits. With a leading zero they are octal, as YAML has it.
func fileMode(v *doc.Value, key string, otherwise uint32) (uint32, error) {
	w := v.Get(key)
	if w.IsNull() {
		return otherwise, nil
	}
	base, digits := 10, w.Text
	if strings.HasPrefix(digits, "0") {
		base, digits = 8, strings.TrimPrefix(digits, "0o")
	}
	n, err := strconv.ParseUint(digits, base, 32)
	if w.Kind != doc.Number || err != nil || n > 0o777 {
		return 0, w.Errorf("%s is %q, expected permission bits such as 0440", key, w.Text)
	}
	return uint32(n), nil
}

// downward makes files of what the pod says of itself.
func (p *pod) downward(v *doc.Value, mode uint32) ([]spec.File, error) {
	list, err := items(v, "items")
	if err != nil {
		return nil, err
	}
	var out []spec.File
	for _, item := range list {
		if err := checkKeys(item, "path", "fieldRef", "resourceFieldRef", "mode"); err != nil {
			return nil, err
		}
		f := spec.File{}
		if f.Path, err = text(item, "path"); err != nil {
			return nil, err
		}
		if f.Mode, err = fileMode(item, "mode", mode); err != nil {
			return nil, err
		}
		value := ""
		if ref := item.Get("resourceFieldRef"); !ref.IsNull() {
			value, err = p.resourceOf(ref)
		} else {
			value, err = p.field(item.Get("fieldRef"), item)
		}
		if err != nil {
			return nil, err
		}
		f.Content = spec.Content(value)
		out = append(out, f)
	}
	return out, nil
}

// resourceOf computes a limit or request of the container that is named.
func (p *pod) resourceOf(ref *doc.Value) (string, error) {
	name, err := text(ref, "containerName")
	if err != nil {
		return "", err
	}
	for _, key := range []string{"containers", "initContainers"} {
		for _, c := range p.spec.Get(key).ItemsOf() {
			if textOf(c.Get("name")) != name {
				continue
			}
			value, err := p.resource(c, ref)
			if errors.Is(err, errNodeDecides) {
				err = ref.Errorf("%w", err)
			}
			return value, err
		}
	}
	return "", ref.Errorf("there is no container %q", name)
}

// field returns a field of the pod that is known before it runs.
func (p *pod) field(ref, at *doc.Value) (string, error) {
	path, err := text(ref, "fieldPath")
	if err != nil {
		return "", err
	}
	switch path {
	case "metadata.name":
		return p.group.Name, nil
	case "metadata.namespace":
		if p.namespace == "" {
			return "default", nil
		}
		return p.namespace, nil
	case "metadata.labels", "metadata.annotations":
		var lines []string
		for _, m := range p.meta.Get(strings.TrimPrefix(path, "metadata.")).MembersOf() {
			s, err := str(m.Value)
			if err != nil {
				return "", err
			}
			lines = append(lines, fmt.Sprintf("%s=%q", m.Key, s))
		}
		slices.Sort(lines)
		return strings.Join(lines, "\n"), nil
	}
	for _, kind := range []string{"labels", "annotations"} {
		rest, ok := strings.CutPrefix(path, "metadata."+kind+"['")
		key, closed := strings.CutSuffix(rest, "']")
		if ok && closed {
			return text(p.meta.Get(kind), key)
		}
	}
	return "", at.Errorf("field %q of the pod is not known before it runs", path)
}
