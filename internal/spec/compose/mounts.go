// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"slices"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// checkVolumes refuses volumes that are not made by the group itself.
func (r *reader) checkVolumes() error {
	for _, m := range r.root.Get("volumes").MembersOf() {
		if m.Value.IsNull() {
			continue
		}
		if err := checkKeys(m.Value, "name", "labels"); err != nil {
			return err
		}
	}
	return nil
}

// mounts reads volumes and tmpfs. All of them are empty when the group starts: nothing outlives it.
func (r *reader) mounts(v *doc.Value, c *spec.Container) error {
	list := v.Get("volumes")
	if !list.IsNull() && list.Kind != doc.Array {
		return list.Errorf("volumes is %s, expected a list", list.Kind)
	}
	if list != nil {
		for _, item := range list.Items {
			m, err := r.mount(item, c)
			if err != nil {
				return err
			}
			c.Mounts = append(c.Mounts, m)
		}
	}
	tmpfs := v.Get("tmpfs")
	if tmpfs.IsNull() {
		return nil
	}
	if tmpfs.Kind == doc.String {
		tmpfs = doc.List(tmpfs)
	}
	for _, item := range tmpfs.Items {
		s, err := r.str(item)
		if err != nil {
			return err
		}
		path, options, _ := strings.Cut(s, ":")
		size := uint64(0)
		for option := range strings.SplitSeq(options, ",") {
			text, ok := strings.CutPrefix(option, "size=")
			switch {
			case ok:
				if size, err = bytesOf(text); err != nil {
					return item.Errorf("size of a tmpfs: %w", err)
				}
			case option != "":
				r.warnings.Add(spec.WarnIgnored, item.Path, "option %q of a tmpfs has no effect here", option)
			}
		}
		c.Mounts = append(c.Mounts, r.memory(c, path, size))
	}
	return nil
}

// memory mounts a directory of the container's own that is kept in memory.
func (r *reader) memory(c *spec.Container, path string, size uint64) spec.Mount {
	prefix, n := c.Name+".tmpfs", 1
	for _, v := range r.group.Volumes {
		if strings.HasPrefix(v.Name, prefix) {
			n++
		}
	}
	name := prefix + strconv.Itoa(n)
	r.group.Volumes = append(r.group.Volumes, spec.Volume{Name: name, Kind: spec.MountEmptyDir, Memory: true, SizeLimitBytes: size})
	return spec.Mount{Kind: spec.MountEmptyDir, Path: path, Volume: name}
}

// share adds a declared volume to the group's when it is first used.
func (r *reader) share(at *doc.Value, name string) {
	if name == "" || slices.ContainsFunc(r.group.Volumes, func(v spec.Volume) bool { return v.Name == name }) {
		return
	}
	r.warnings.Add(spec.WarnChanged, at.Path, "volume %s is empty whenever the group starts", name)
	r.group.Volumes = append(r.group.Volumes, spec.Volume{Name: name, Kind: spec.MountEmptyDir})
}

// mount reads one volume, in its short or its long form.
func (r *reader) mount(v *doc.Value, c *spec.Container) (spec.Mount, error) {
	m := spec.Mount{Kind: spec.MountEmptyDir}
	if v.Kind == doc.Object {
		return r.longMount(v, c)
	}
	s, err := r.str(v)
	if err != nil {
		return m, err
	}
	parts := strings.Split(s, ":")
	switch len(parts) {
	case 1:
		m.Path = parts[0]
	case 2, 3:
		m.Volume, m.Path = parts[0], parts[1]
	default:
		return m, v.Errorf("volume %q is not [NAME:]PATH[:ro]", s)
	}
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			m.ReadOnly = true
		case "rw":
		default:
			return m, v.Errorf("option %q of a volume is not supported, only ro and rw", parts[2])
		}
	}
	if err := r.checkSource(v, m.Volume); err != nil {
		return m, err
	}
	r.share(v, m.Volume)
	return m, nil
}

func (r *reader) longMount(v *doc.Value, c *spec.Container) (spec.Mount, error) {
	m := spec.Mount{Kind: spec.MountEmptyDir}
	if err := checkKeys(v, "type", "source", "target", "read_only", "volume", "tmpfs"); err != nil {
		return m, err
	}
	kind, err := r.text(v, "type")
	if err != nil {
		return m, err
	}
	if !slices.Contains([]string{"volume", "tmpfs"}, kind) {
		return m, v.Errorf("volumes of type %q are not supported: nothing of the host is mounted. %s", kind, insteadOfBind)
	}
	if m.Volume, err = r.text(v, "source"); err != nil {
		return m, err
	}
	if m.Path, err = r.text(v, "target"); err != nil {
		return m, err
	}
	if m.ReadOnly, err = truth(v, "read_only"); err != nil {
		return m, err
	}
	if err := r.checkSource(v, m.Volume); err != nil {
		return m, err
	}
	if kind == "tmpfs" {
		return r.longTmpfs(v, c, m)
	}
	r.share(v, m.Volume)
	if w := v.Get("volume"); !w.IsNull() {
		if err := checkKeys(w, "nocopy", "subpath"); err != nil {
			return m, err
		}
		m.SubPath, err = r.text(w, "subpath")
	}
	return m, err
}

func (r *reader) longTmpfs(v *doc.Value, c *spec.Container, m spec.Mount) (spec.Mount, error) {
	if m.Volume != "" {
		return m, v.Errorf("a tmpfs has no source")
	}
	size := uint64(0)
	if w := v.Get("tmpfs"); !w.IsNull() {
		if err := checkKeys(w, "size", "mode"); err != nil {
			return m, err
		}
		var err error
		if size, err = r.bytes(w, "size"); err != nil {
			return m, err
		}
	}
	own := r.memory(c, m.Path, size)
	own.ReadOnly = m.ReadOnly
	return own, nil
}

// insteadOfBind is what to do without a directory of the host.
const insteadOfBind = "Put files that the container only reads into the image, or under configs or secrets; use a named volume for what it writes"

// checkSource accepts a volume that the file declares.
func (r *reader) checkSource(v *doc.Value, source string) error {
	switch {
	case source == "":
		return nil
	case strings.ContainsAny(source, `/\~`) || strings.HasPrefix(source, "."):
		return v.Errorf("%q is a directory of the host, and nothing of the host is mounted. %s", source, insteadOfBind)
	}
	for _, m := range r.root.Get("volumes").MembersOf() {
		if m.Key == source {
			return nil
		}
	}
	return v.Errorf("volume %q is not declared", source)
}
