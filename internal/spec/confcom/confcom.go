// SPDX-License-Identifier: Apache-2.0

// Package confcom reads the descriptions that Azure's confcom extension takes: its --input JSON in both versions, and
// its container definitions.
//
// Keys are compared without regard to case, as that tool does. It trusts nothing that it reads; a key that it does not
// know is an error, since it could change what runs.
package confcom

import (
	"slices"
	"strconv"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// Detect says whether a document looks like a description for --input.
func Detect(v *doc.Value) bool {
	return v.Fold("containers") != nil || v.Fold("fragments") != nil
}

const workloadIdentity = "azure.workload.identity/use"

// Read reads a description for --input.
func Read(root *doc.Value, w *spec.Warnings) (spec.Group, error) {
	g := spec.Group{Platform: spec.PlatformACI, Origin: root.Path}
	if err := checkKeys(root, "version", "scenario", "labels", "fragments", "standalonefragments", "containers", "allowhostnetwork",
		"allowedlogproviders"); err != nil {
		return g, err
	}
	host, err := truth(root, "allowHostNetwork", false)
	if err != nil {
		return g, err
	}
	if host {
		return g, root.Fold("allowHostNetwork").Errorf("this is not read; --allow-host-network with --api 0.12.0 says the same")
	}
	providers, err := items(root, "allowedLogProviders")
	if err != nil {
		return g, err
	}
	if len(providers) > 0 {
		return g, root.Fold("allowedLogProviders").Errorf("log providers are for Windows, which is not supported")
	}
	scenario, err := text(root, "scenario")
	if err != nil {
		return g, err
	}
	switch strings.ToLower(scenario) {
	case "", "aci":
	case "vn2":
		g.Platform = spec.PlatformVirtualNode
	default:
		return g, root.Fold("scenario").Errorf("scenario %q is neither aci nor vn2", scenario)
	}
	if version := root.Fold("version"); version != nil && version.Text != "1.0" && version.Text != "1" {
		return g, version.Errorf("version is %q, expected 1.0", version.Text)
	}
	if label := root.Fold("labels").Fold(workloadIdentity); label != nil {
		g.WorkloadIdentity = label.Kind == doc.Bool && label.True || strings.EqualFold(label.Text, "true")
	}
	for _, key := range []string{"fragments", "standaloneFragments"} {
		list, err := items(root, key)
		if err != nil {
			return g, err
		}
		for _, f := range list {
			fragment, err := readFragment(f)
			if err != nil {
				return g, err
			}
			g.Fragments = append(g.Fragments, fragment)
		}
	}
	containers, err := items(root, "containers")
	if err != nil {
		return g, err
	}
	for _, c := range containers {
		out, err := container(c, w)
		if err != nil {
			return g, err
		}
		g.Containers = append(g.Containers, out)
	}
	return g, nil
}

// readFragment reads an import.
func readFragment(f *doc.Value) (spec.Fragment, error) {
	var out spec.Fragment
	if err := checkKeys(f, "issuer", "feed", "minimum_svn", "includes", "required_receipts", "path"); err != nil {
		return out, err
	}
	var err error
	for key, to := range map[string]*string{"issuer": &out.Issuer, "feed": &out.Feed, "minimum_svn": &out.MinimumSVN} {
		if *to, err = text(f, key); err != nil {
			return out, err
		}
		if *to == "" {
			return out, f.Errorf("a fragment has no %s", key)
		}
	}
	if _, err := strconv.ParseUint(out.MinimumSVN, 10, 63); err != nil || f.Fold("minimum_svn").Kind != doc.String {
		return out, f.Fold("minimum_svn").Errorf("minimum_svn is no whole number in a string")
	}
	if out.Includes, err = texts(f, "includes"); err != nil {
		return out, err
	}
	if out.RequiredReceipts, err = texts(f, "required_receipts"); err != nil {
		return out, err
	}
	known := []string{
		"containers", "fragments", "external_processes", "namespace", "external_containers", "platform_rules", "transparency_trust_lists",
	}
	for _, s := range out.Includes {
		if !slices.Contains(known, s) {
			return out, f.Fold("includes").Errorf("%q cannot be included from a fragment", s)
		}
	}
	return out, nil
}

// container reads a container of either version: the older one has no properties.
func container(c *doc.Value, w *spec.Warnings) (spec.Container, error) {
	out := spec.Container{AllowStdio: true, AllowPrivilegeEscalation: true}
	properties, legacy := c.Fold("properties"), false
	var err error
	if properties == nil {
		properties, legacy = c, true
		err = checkKeys(c, "id", "name", "containerimage", "environmentvariables", "command", "workingdir", "mounts",
			"execprocesses", "livenessprobe", "readinessprobe", "securitycontext", "allow_elevated", "signals",
			"wait_mount_points")
	} else if err = checkKeys(c, "name", "properties"); err == nil {
		err = checkKeys(properties, "image", "command", "workingdir", "environmentvariables", "execprocesses",
			"volumemounts", "securitycontext", "livenessprobe", "readinessprobe", "allowstdioaccess")
	}
	if err != nil {
		return out, err
	}
	r := reader{legacy: legacy, warnings: w}
	for _, step := range []func(c, p *doc.Value, out *spec.Container) error{r.names, r.environment, r.exec, r.mounts, r.security} {
		if err := step(c, properties, &out); err != nil {
			return out, err
		}
	}
	return out, nil
}

func checkKeys(v *doc.Value, known ...string) error {
	if v.Kind != doc.Object {
		return v.Errorf("%s stands where an object is expected", v.Kind)
	}
	for _, m := range v.Members {
		if !slices.Contains(known, strings.ToLower(m.Key)) {
			return m.Value.Errorf("key %q is not known, and may change what runs", m.Key)
		}
	}
	return nil
}

func text(v *doc.Value, key string) (string, error) {
	w := v.Fold(key)
	switch {
	case w.IsNull():
		return "", nil
	case w.Kind != doc.String:
		return "", w.Errorf("%s is %s, expected a string", key, w.Kind)
	}
	return w.Text, nil
}

func items(v *doc.Value, key string) ([]*doc.Value, error) {
	w := v.Fold(key)
	switch {
	case w.IsNull():
		return nil, nil
	case w.Kind != doc.Array:
		return nil, w.Errorf("%s is %s, expected a list", key, w.Kind)
	}
	return w.Items, nil
}

func texts(v *doc.Value, key string) ([]string, error) {
	list, err := items(v, key)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, item := range list {
		if item.Kind != doc.String {
			return nil, item.Errorf("%s holds %s, expected strings", key, item.Kind)
		}
		out = append(out, item.Text)
	}
	return out, nil
}

func truth(v *doc.Value, key string, otherwise bool) (bool, error) {
	w := v.Fold(key)
	switch {
	case w.IsNull():
		return otherwise, nil
	case w.Kind == doc.String && (strings.EqualFold(w.Text, "true") || strings.EqualFold(w.Text, "false")):
		return strings.EqualFold(w.Text, "true"), nil
	case w.Kind != doc.Bool:
		return false, w.Errorf("%s is %s, expected a boolean", key, w.Kind)
	}
	return w.True, nil
}
