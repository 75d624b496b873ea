// SPDX-License-Identifier: Apache-2.0

package arm

import (
	"slices"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// overridden are the properties of a container that a group may lay over those of its profile. What else the service
// accepts there is not documented.
var overridden = []string{"image", "command", "environmentvariables", "resources"}

// withProfile lays the properties of a group over those of the profile that it names. The profile must stand in the same
// template: what another one says is not known, and would change what runs.
func (r *reader) withProfile(f *frame, resource, properties *doc.Value) (*doc.Value, error) {
	ref, err := f.object(properties, "containerGroupProfile")
	if err != nil || ref == nil {
		return resource, err
	}
	if err := checkKeys(ref, "id", "revision"); err != nil {
		return nil, err
	}
	id, err := f.somewhere().text(ref, "id")
	if err != nil {
		return nil, err
	}
	if _, err := f.whole(ref, "revision"); r.soft(ref, err) != nil {
		return nil, err
	}
	profile, err := r.profile(ref, id)
	if err != nil {
		return nil, err
	}
	r.warnings.Add(spec.WarnChanged, ref.Path, "the profile is taken as it stands in this template, whatever its revision at the service is")
	base, err := profile.frame.deep(profile.resource.Fold("properties"), 0)
	if err != nil {
		return nil, err
	}
	if base.Kind != doc.Object || !base.Fold("containerGroupProfile").IsNull() {
		return nil, ref.Errorf("profile %q names another profile, or has no properties", id)
	}
	own, err := f.deep(properties, 0)
	if err != nil {
		return nil, err
	}
	merged, err := overlaid(base, own)
	if err != nil {
		return nil, err
	}
	out := *resource
	out.Members = slices.Clone(resource.Members)
	for i, m := range out.Members {
		if strings.EqualFold(m.Key, "properties") {
			out.Members[i].Value = merged
		}
	}
	return &out, nil
}

// profile finds a profile by its resource ID, or by its name alone.
func (r *reader) profile(ref *doc.Value, id string) (*found, error) {
	name := id
	if i := strings.LastIndexByte(id, '/'); i >= 0 {
		if !strings.HasSuffix(strings.ToLower(id[:i]), "/"+profileType) {
			return nil, ref.Errorf("%q is not the ID of a profile of container groups", id)
		}
		name = id[i+1:]
	}
	var out *found
	for i := range r.found {
		p := &r.found[i]
		if !p.profile {
			continue
		}
		if s, err := p.frame.text(p.resource, "name"); err != nil || !strings.EqualFold(s, name) {
			continue
		}
		if out != nil {
			return nil, ref.Errorf("the template has two profiles named %q", name)
		}
		out = p
	}
	if out == nil || out.resource.Fold("properties") == nil {
		return nil, ref.Errorf("profile %q does not stand in this template, and what it says is not known", name)
	}
	return out, nil
}

// somewhere is the frame in a deployment that is made up where nothing is known of it: the ID of a profile is asked
// for its name only.
func (f *frame) somewhere() *frame {
	t := *f.t
	t.known = known(Options{SubscriptionID: "00000000-0000-0000-0000-000000000000", ResourceGroup: "group"})
	for key, v := range f.t.known {
		if v != nil {
			t.known[key] = v
		}
	}
	return &frame{t: &t, loops: f.loops}
}

// overlaid is the profile's properties with the group's in their place.
func overlaid(profile, group *doc.Value) (*doc.Value, error) {
	out := *group
	out.Members = nil
	for _, m := range group.Members {
		if strings.EqualFold(m.Key, "containerGroupProfile") || m.Value.IsNull() {
			continue
		}
		if below := profile.Fold(m.Key); isContainers(m.Key) && !below.IsNull() {
			list, err := overlaidContainers(below, m.Value)
			if err != nil {
				return nil, err
			}
			m.Value = list
		}
		out.Members = append(out.Members, m)
	}
	for _, m := range profile.Members {
		if out.Fold(m.Key) == nil {
			out.Members = append(out.Members, m)
		}
	}
	return &out, nil
}

func isContainers(key string) bool {
	return strings.EqualFold(key, "containers") || strings.EqualFold(key, "initContainers")
}

// overlaidContainers lays containers over those of the same name.
func overlaidContainers(profile, group *doc.Value) (*doc.Value, error) {
	if profile.Kind != doc.Array || group.Kind != doc.Array {
		return group, nil // whose reader says what is wrong
	}
	out := *profile
	out.Items = slices.Clone(profile.Items)
	for _, c := range group.Items {
		name := textOf(c.Fold("name"))
		i := slices.IndexFunc(out.Items, func(p *doc.Value) bool { return textOf(p.Fold("name")) == name })
		if i < 0 || name == "" {
			return nil, c.Errorf("the profile has no container %q", name)
		}
		if err := checkKeys(c, "name", "properties"); err != nil {
			return nil, err
		}
		below, above := out.Items[i].Fold("properties"), c.Fold("properties")
		if above.IsNull() {
			continue
		}
		if below == nil || below.Kind != doc.Object || above.Kind != doc.Object {
			return nil, c.Errorf("the properties of container %q are no object, here or in the profile", name)
		}
		merged := *below
		merged.Members = slices.Clone(merged.Members)
		for _, m := range above.Members {
			if !slices.Contains(overridden, strings.ToLower(m.Key)) {
				return nil, m.Value.Errorf("%q of a profile's container can not be replaced, only %s", m.Key, strings.Join(overridden, ", "))
			}
			if strings.EqualFold(m.Key, "environmentVariables") {
				m.Value = overlaidVariables(merged.Fold(m.Key), m.Value)
			}
			merged.Members = replaced(merged.Members, m)
		}
		item := *out.Items[i]
		item.Members = replaced(slices.Clone(item.Members), doc.Member{Key: "properties", Value: &merged, Line: merged.Line})
		out.Items[i] = &item
	}
	return &out, nil
}

// overlaidVariables replaces variables by name, and adds those that are new.
func overlaidVariables(profile, group *doc.Value) *doc.Value {
	if profile == nil || profile.Kind != doc.Array || group.Kind != doc.Array {
		return group
	}
	out := *profile
	out.Items = slices.Clone(profile.Items)
	for _, v := range group.Items {
		i := slices.IndexFunc(out.Items, func(p *doc.Value) bool { return textOf(p.Fold("name")) == textOf(v.Fold("name")) })
		if i < 0 {
			out.Items = append(out.Items, v)
		} else {
			out.Items[i] = v
		}
	}
	return &out
}

func replaced(members []doc.Member, m doc.Member) []doc.Member {
	for i := range members {
		if strings.EqualFold(members[i].Key, m.Key) {
			members[i] = m
			return members
		}
	}
	return append(members, m)
}
