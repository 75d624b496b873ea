// SPDX-License-Identifier: Apache-2.0

package compose

import (
	"slices"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// checkVolumes refuses volumes that are not made by the group itself.
func (r *reader) checkVolumes(v *doc.Value) error {
	for _, m := range v.MembersOf() {
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
func (r *reader) mounts(v, volumes *doc.Value, c *spec.Container) error {
	list := v.Get("volumes")
	if !list.IsNull() && list.Kind != doc.Array {
		return list.Errorf("volumes is %s, expected a list", list.Kind)
	}
	if list != nil {
		for _, item := range list.Items {
			m, named, err := r.mount(item, volumes)
			if err != nil {
				return err
			}
			if named {
				r.warnings.Add(spec.WarnChanged, item.Path, "the volume at %s is empty whenever the group starts, and is the container's own", m.Path)
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
		path, _, _ := strings.Cut(s, ":")
		c.Mounts = append(c.Mounts, spec.Mount{Kind: spec.MountEmptyDir, Path: path})
	}
	return nil
}

// mount reads one volume, in its short or its long form.
func (r *reader) mount(v, volumes *doc.Value) (spec.Mount, bool, error) {
	m := spec.Mount{Kind: spec.MountEmptyDir}
	if v.Kind == doc.Object {
		return r.longMount(v, volumes, m)
	}
	s, err := r.str(v)
	if err != nil {
		return m, false, err
	}
	parts := strings.Split(s, ":")
	source := ""
	switch len(parts) {
	case 1:
		m.Path = parts[0]
	case 2, 3:
		source, m.Path = parts[0], parts[1]
	default:
		return m, false, v.Errorf("volume %q is not [NAME:]PATH[:ro]", s)
	}
	if len(parts) == 3 {
		switch parts[2] {
		case "ro":
			m.ReadOnly = true
		case "rw":
		default:
			return m, false, v.Errorf("option %q of a volume is not supported, only ro and rw", parts[2])
		}
	}
	return m, source != "", checkSource(v, source, volumes)
}

func (r *reader) longMount(v, volumes *doc.Value, m spec.Mount) (spec.Mount, bool, error) {
	if err := checkKeys(v, "type", "source", "target", "read_only"); err != nil {
		return m, false, err
	}
	kind, err := r.text(v, "type")
	if err != nil {
		return m, false, err
	}
	if !slices.Contains([]string{"volume", "tmpfs"}, kind) {
		return m, false, v.Errorf("volumes of type %q are not supported: nothing of the host is mounted", kind)
	}
	source, err := r.text(v, "source")
	if err != nil {
		return m, false, err
	}
	if m.Path, err = r.text(v, "target"); err != nil {
		return m, false, err
	}
	if m.ReadOnly, err = truth(v, "read_only"); err != nil {
		return m, false, err
	}
	return m, source != "", checkSource(v, source, volumes)
}

// checkSource accepts a volume that the file declares.
func checkSource(v *doc.Value, source string, volumes *doc.Value) error {
	switch {
	case source == "":
		return nil
	case strings.ContainsAny(source, `/\.~`):
		return v.Errorf("%q is a directory of the host, and nothing of the host is mounted", source)
	}
	for _, m := range volumes.MembersOf() {
		if m.Key == source {
			return nil
		}
	}
	return v.Errorf("volume %q is not declared", source)
}

// ports reads the ports that are forwarded.
func (r *reader) ports(v *doc.Value) ([]spec.Port, error) {
	list := v.Get("ports")
	if list.IsNull() {
		return nil, nil
	}
	if list.Kind != doc.Array {
		return nil, list.Errorf("ports is %s, expected a list", list.Kind)
	}
	var out []spec.Port
	for _, item := range list.Items {
		text := ""
		var err error
		if item.Kind == doc.Object {
			text, err = r.longPort(item)
		} else {
			text, err = r.str(item)
		}
		if err != nil {
			return nil, err
		}
		p, err := spec.ParsePort(text)
		if err != nil {
			return nil, item.Errorf("%w", err)
		}
		out = append(out, p)
	}
	return out, nil
}

// longPort writes the long form as the short one.
func (r *reader) longPort(v *doc.Value) (string, error) {
	if err := checkKeys(v, "name", "target", "published", "host_ip", "protocol", "app_protocol", "mode"); err != nil {
		return "", err
	}
	part := map[string]string{}
	for _, key := range []string{"target", "published", "host_ip", "protocol"} {
		s, err := r.text(v, key)
		if err != nil {
			return "", err
		}
		part[key] = s
	}
	text := part["published"] + ":" + part["target"]
	if ip := part["host_ip"]; strings.Contains(ip, ":") {
		text = "[" + ip + "]:" + text
	} else if ip != "" {
		text = ip + ":" + text
	}
	if part["protocol"] != "" {
		text += "/" + part["protocol"]
	}
	return text, nil
}
