// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"path"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// secretsDirectory is where secrets are found that say nothing else.
const secretsDirectory = "/run/secrets"

// fileMode is the one of secrets and configs that say nothing else.
const fileMode = 0o444

// files reads secrets and configs. Those of the usual directory make one volume; each of the others is mounted at its own
// path, out of a second one.
func (r *reader) files(v *doc.Value, c *spec.Container) error {
	usual := spec.Volume{Name: c.Name + ".secrets", Kind: spec.MountSecret}
	others := spec.Volume{Name: c.Name + ".files", Kind: spec.MountSecret}
	for _, kind := range []string{"secrets", "configs"} {
		list := v.Get(kind)
		if list.IsNull() {
			continue
		}
		if list.Kind != doc.Array {
			return list.Errorf("%s is %s, expected a list", kind, list.Kind)
		}
		for _, item := range list.Items {
			f, err := r.fileOf(kind, item)
			if err != nil {
				return err
			}
			if name, ok := strings.CutPrefix(f.Path, secretsDirectory+"/"); ok {
				f.Path = name
				usual.Files = append(usual.Files, f)
				continue
			}
			target := f.Path
			f.Path = strings.TrimPrefix(f.Path, "/")
			others.Files = append(others.Files, f)
			c.Mounts = append(c.Mounts, spec.Mount{Kind: spec.MountSecret, Path: target, ReadOnly: true, Volume: others.Name, SubPath: f.Path})
		}
	}
	if len(usual.Files) > 0 {
		r.group.Volumes = append(r.group.Volumes, usual)
		c.Mounts = append(c.Mounts, spec.Mount{Kind: spec.MountSecret, Path: secretsDirectory, ReadOnly: true, Volume: usual.Name})
	}
	if len(others.Files) > 0 {
		r.group.Volumes = append(r.group.Volumes, others)
	}
	return nil
}

// fileOf reads one use of a secret or config, in its short or its long form. Its path is absolute.
func (r *reader) fileOf(kind string, v *doc.Value) (spec.File, error) {
	f := spec.File{Mode: fileMode}
	source, target := "", ""
	var err error
	if v.Kind != doc.Object {
		source, err = r.str(v)
	} else if err = checkKeys(v, "source", "target", "uid", "gid", "mode"); err == nil {
		if source, err = r.text(v, "source"); err == nil {
			target, err = r.text(v, "target")
		}
	}
	if err != nil {
		return f, err
	}
	if f.Mode, err = mode(v.Get("mode")); err != nil {
		return f, err
	}
	for _, key := range []string{"uid", "gid"} {
		if s, err := r.text(v, key); err != nil {
			return f, err
		} else if s != "" && s != "0" {
			r.warnings.Add(spec.WarnIgnored, v.Get(key).Path, "%s has no effect: files of a secret or config belong to user and group 0", key)
		}
	}
	switch {
	case target == "" && kind == "secrets":
		target = secretsDirectory + "/" + source
	case target == "":
		target = "/" + source
	case !path.IsAbs(target) && kind == "secrets":
		target = secretsDirectory + "/" + target
	case !path.IsAbs(target):
		target = "/" + target
	}
	if path.Clean(target) != target || target == "/" {
		return f, v.Errorf("target %q is not a clean path of a file", target)
	}
	f.Path = target
	f.Content, err = r.contentOf(kind, v, source)
	return f, err
}

// mode reads permission bits: octal in a string or with a leading zero, as YAML has it.
func mode(v *doc.Value) (uint32, error) {
	if v.IsNull() {
		return fileMode, nil
	}
	base, text := 8, strings.TrimPrefix(v.Text, "0o")
	if v.Kind == doc.Number && !strings.HasPrefix(v.Text, "0") {
		base = 10
	}
	n, err := strconv.ParseUint(text, base, 32)
	if v.Kind != doc.Number && v.Kind != doc.String || err != nil || n > 0o777 {
		return 0, v.Errorf("mode is %q, expected permission bits such as \"0440\"", v.Text)
	}
	return uint32(n), nil
}

// contentOf reads what a secret or config holds: a file, a text, or a variable.
func (r *reader) contentOf(kind string, at *doc.Value, name string) (spec.Content, error) {
	v := r.root.Get(kind).Get(name)
	if v == nil {
		return nil, at.Errorf("%q is not declared under %s", name, kind)
	}
	if err := checkKeys(v, "file", "content", "environment", "external", "name", "labels"); err != nil {
		return nil, err
	}
	if external, err := truth(v, "external"); err != nil || external {
		return nil, v.Errorf("%q is not in the description: give it a file, a content or an environment variable", name)
	}
	given := 0
	for _, key := range []string{"file", "content", "environment"} {
		if !v.Get(key).IsNull() {
			given++
		}
	}
	if given != 1 {
		return nil, v.Errorf("%q needs exactly one of file, content and environment", name)
	}
	if text := v.Get("content"); !text.IsNull() {
		s, err := r.str(text)
		if err != nil { // which would show a part of it
			return nil, text.Errorf("the content is no text, names a variable that is not set, or has a lone $: write $$ for one")
		}
		return spec.Content(s), nil
	}
	if variable := v.Get("environment"); !variable.IsNull() {
		key, err := r.str(variable)
		if err != nil {
			return nil, err
		}
		s, err := r.inherited(variable, key)
		return spec.Content(s), err
	}
	file, err := r.text(v, "file")
	if err != nil {
		return nil, err
	}
	data, err := r.file(file)
	if err != nil {
		return nil, v.Get("file").Errorf("file %q: %w", file, err)
	}
	return spec.Content(data), nil
}
