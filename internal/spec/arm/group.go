// SPDX-License-Identifier: Apache-2.0

package arm

import (
	"slices"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// groupKeys are the properties of a group that are read, groupIgnored those that only the service can have a use for.
// Those of groupTimes are dates in the service's description, and what they do to a group is not told.
var (
	groupKeys = []string{
		"containers", "initcontainers", "volumes", "confidentialcomputeproperties", "ostype", "containergroupprofile",
		"extensions", "sku", "restartpolicy", "ipaddress", "imageregistrycredentials", "dnsconfig", "diagnostics",
	}
	groupIgnored = []string{
		"subnetids", "encryptionproperties", "priority", "standbypoolprofile", "identityacls", "secretreferences",
		"provisioningstate", "instanceview", "networkprofile", "revision", "registeredrevisions",
		"iscreatedfromstandbypool", "uselatestversion",
	}
	groupTimes = []string{"shutdowngraceperiod", "timetolive"}
)

// checkKeys refuses keys that are not known: they could change what runs.
func checkKeys(v *doc.Value, known ...string) error {
	for _, m := range v.Members {
		if !slices.Contains(known, strings.ToLower(m.Key)) {
			return m.Value.Errorf("property %q is not known, and may change what runs", m.Key)
		}
	}
	return nil
}

// object gets a member that is an object; nil if there is none.
func (f *frame) object(v *doc.Value, key string) (*doc.Value, error) {
	w, err := f.get(v, key)
	if err != nil || w == nil {
		return nil, err
	}
	if w.Kind != doc.Object {
		return nil, w.Errorf("%s is %s, expected an object", key, w.Kind)
	}
	return w, nil
}

// list gets the items of a member that is a list.
func (f *frame) list(v *doc.Value, key string) ([]*doc.Value, error) {
	w, err := f.get(v, key)
	if err != nil {
		return nil, err
	}
	return f.items(w)
}

// text gets a string; numbers are taken as they are written. Empty if there is none.
func (f *frame) text(v *doc.Value, key string) (string, error) {
	w, err := f.get(v, key)
	switch {
	case err != nil || w == nil:
		return "", err
	case w.Kind == doc.String:
		return w.Text, nil
	case w.Kind == doc.Number:
		if _, err := wholeNumber(w); err == nil {
			return w.Text, nil
		}
	}
	return "", w.Errorf("%s is %s, expected a string", key, w.Kind)
}

// texts gets a list of strings.
func (f *frame) texts(v *doc.Value, key string) ([]string, error) {
	items, err := f.list(v, key)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, item := range items {
		if item.Kind != doc.String {
			return nil, item.Errorf("%s holds %s, expected strings", key, item.Kind)
		}
		out = append(out, item.Text)
	}
	return out, nil
}

// truth gets a boolean, which may be written as a string. Nil if there is none.
func (f *frame) truth(v *doc.Value, key string) (*bool, error) {
	w, err := f.get(v, key)
	if err != nil || w == nil {
		return nil, err
	}
	yes := w.True
	if w.Kind == doc.String && (strings.EqualFold(w.Text, "true") || strings.EqualFold(w.Text, "false")) {
		yes = strings.EqualFold(w.Text, "true")
	} else if w.Kind != doc.Bool {
		return nil, w.Errorf("%s is %s, expected a boolean", key, w.Kind)
	}
	return &yes, nil
}

func (r *reader) group(at found) error {
	f, resource := at.frame, at.resource
	g := spec.Group{Platform: spec.PlatformACI, Origin: resource.Path, Profile: at.profile, Restart: spec.RestartAlways}
	r.unknown = nil
	if name, err := f.text(resource, "name"); err == nil {
		g.Name = name // no policy depends on it: it may be unknown
	}
	properties, err := f.object(resource, "properties")
	if err != nil {
		return err
	}
	if properties == nil {
		return resource.Errorf("a container group has no properties")
	}
	if err := checkKeys(properties, slices.Concat(groupKeys, groupIgnored, groupTimes)...); err != nil {
		return err
	}
	if resource, err = r.withProfile(f, resource, properties); err != nil {
		return err
	}
	if properties, err = f.object(resource, "properties"); err != nil {
		return err
	}
	for _, key := range groupTimes {
		if v := properties.Fold(key); !v.IsNull() {
			r.warnings.Add(spec.WarnIgnored, v.Path, "this is left out: only the service knows what it does")
		}
	}
	if system, err := f.text(properties, "osType"); err != nil {
		return err
	} else if system != "" && !strings.EqualFold(system, "linux") {
		return properties.Errorf("osType is %q; only Linux groups are supported", system)
	}
	for _, step := range []func(*frame, *doc.Value, *spec.Group) error{r.tags, r.confidential, r.containers, r.operation} {
		if err := step(f, resource, &g); err != nil {
			return err
		}
	}
	g.Unknown = r.unknown
	r.groups = append(r.groups, g)
	return nil
}

// egressTag is the tag that limits what the containers may connect to.
const egressTag = "cofferdam-egress"

// tags reads the tag by which a group does without the platform's fragment, and the one for its egress.
func (r *reader) tags(f *frame, resource *doc.Value, g *spec.Group) error {
	tags, err := f.object(resource, "tags")
	if err != nil {
		return err
	}
	zero, err := f.truth(tags, "Annotate-zero-sidecar")
	if err != nil {
		return err
	}
	g.ExcludeDefaultFragment = zero != nil && *zero
	egress, err := f.get(tags, egressTag)
	if err != nil || egress == nil {
		return err
	}
	text, err := f.text(tags, egressTag)
	if err != nil {
		return err
	}
	if g.Egress, err = spec.ParseEgressList(text); err != nil {
		return egress.Errorf("%w", err)
	}
	return nil
}

// confidential reads the policy that is there already, and the fragments that are named.
func (r *reader) confidential(f *frame, resource *doc.Value, g *spec.Group) error {
	properties, err := f.object(resource, "properties")
	if err != nil {
		return err
	}
	c, err := f.object(properties, "confidentialComputeProperties")
	if err != nil || c == nil {
		return err
	}
	if err := checkKeys(c, "ccepolicy", "standalonefragments"); err != nil {
		return err
	}
	if g.ExistingPolicy, err = f.text(c, "ccePolicy"); err != nil {
		return err
	}
	if g.FragmentReferences, err = f.texts(c, "standaloneFragments"); err != nil {
		return err
	}
	for _, ref := range g.FragmentReferences {
		r.warnings.Add(spec.WarnFragment, c.Path, "fragment %q is named, and its issuer and feed must be given to be imported", ref)
	}
	return nil
}

// containers reads the containers, then the init containers: a policy makes no difference.
func (r *reader) containers(f *frame, resource *doc.Value, g *spec.Group) error {
	properties, err := f.object(resource, "properties")
	if err != nil {
		return err
	}
	if extensions, err := f.get(properties, "extensions"); err != nil {
		return err
	} else if extensions != nil {
		r.warnings.Add(spec.WarnIgnored, extensions.Path, "containers of extensions are not in the policy: the platform's fragment must bring them")
	}
	if g.Volumes, err = r.volumes(f, properties); err != nil {
		return err
	}
	for _, key := range []string{"containers", "initContainers"} {
		list, err := f.list(properties, key)
		if err != nil {
			return err
		}
		for _, c := range list {
			container, err := r.container(f, c, g.Volumes)
			if err != nil {
				return err
			}
			container.Init = key == "initContainers"
			g.Containers = append(g.Containers, container)
		}
	}
	if len(g.Containers) == 0 {
		return properties.Errorf("a container group has no containers")
	}
	return nil
}
