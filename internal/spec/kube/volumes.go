// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"slices"
	"strings"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/spec/doc"
)

// volume is where a mount comes from.
type volume struct {
	kind     spec.MountKind
	readOnly bool
}

// What becomes of the kinds of volumes. Those of readOnlyKinds cannot be written whatever a mount says; those of
// claimKinds need storage that only the virtual node brings.
var (
	readOnlyKinds = []string{"configMap", "secret", "projected", "downwardAPI"}
	claimKinds    = []string{"persistentVolumeClaim", "ephemeral", "azureFile", "azureDisk", "csi", "nfs"}
)

func (p *pod) readVolumes(claims *doc.Value) error {
	p.volumes = map[string]volume{}
	list, err := items(p.spec, "volumes")
	if err != nil {
		return err
	}
	for _, v := range list {
		name, err := text(v, "name")
		if err != nil {
			return err
		}
		if _, twice := p.volumes[name]; twice || name == "" {
			return v.Errorf("a volume needs a name of its own, not %q", name)
		}
		if p.volumes[name], err = p.volume(v); err != nil {
			return err
		}
	}
	if claims.IsNull() {
		return nil
	}
	if !p.options.VirtualNode {
		return claims.Errorf("claims for volumes are supported on the virtual node only")
	}
	for _, c := range claims.Items {
		name, err := text(c.Get("metadata"), "name")
		if err != nil {
			return err
		}
		modes, err := texts(c.Get("spec"), "accessModes")
		if err != nil {
			return err
		}
		p.volumes[name] = volume{kind: spec.MountEmptyDir, readOnly: slices.Contains(modes, "ReadOnlyMany")}
	}
	return nil
}

func (p *pod) volume(v *doc.Value) (volume, error) {
	kind := ""
	for _, m := range v.Members {
		if m.Key == "name" || m.Value.Kind == doc.Null {
			continue
		}
		if kind != "" {
			return volume{}, v.Errorf("a volume is of two kinds, %s and %s", kind, m.Key)
		}
		kind = m.Key
	}
	switch {
	case kind == "emptyDir" || kind == "": // which is the default of Kubernetes
		return volume{kind: spec.MountEmptyDir}, nil
	case slices.Contains(readOnlyKinds, kind):
		if p.options.VirtualNode {
			return volume{kind: spec.MountEmptyDir, readOnly: true}, nil
		}
		return volume{kind: spec.MountSecret, readOnly: true}, nil
	case kind == "hostPath":
		return volume{}, v.Errorf("a hostPath volume is not supported: the files of the node are not trusted")
	case slices.Contains(claimKinds, kind) && p.options.VirtualNode:
		readOnly, err := truth(v.Get(kind), "readOnly", false)
		return volume{kind: spec.MountEmptyDir, readOnly: readOnly}, err
	case slices.Contains(claimKinds, kind):
		return volume{}, v.Errorf("volumes of kind %s are supported on the virtual node only", kind)
	}
	return volume{}, v.Errorf("volumes of kind %q are not supported", kind)
}

func (p *pod) mounts(c *doc.Value, out *spec.Container) error {
	list, err := items(c, "volumeMounts")
	if err != nil {
		return err
	}
	for _, m := range list {
		err := checkKeys(m, "name", "mountPath", "readOnly", "subPath", "subPathExpr", "mountPropagation", "recursiveReadOnly")
		if err != nil {
			return err
		}
		name, err := text(m, "name")
		if err != nil {
			return err
		}
		v, ok := p.volumes[name]
		if !ok {
			return m.Errorf("volume %q is not declared", name)
		}
		path, err := text(m, "mountPath")
		if err != nil {
			return err
		}
		readOnly, err := truth(m, "readOnly", v.readOnly)
		if err != nil {
			return err
		}
		if v.readOnly && !readOnly {
			p.warnings.Add(spec.WarnChanged, m.Path, "volume %q can only be read, so its mount at %s is read-only", name, path)
		}
		if s, err := text(m, "mountPropagation"); err != nil || s == "Bidirectional" {
			return m.Errorf("bidirectional mount propagation is not supported")
		}
		out.Mounts = append(out.Mounts, spec.Mount{Kind: v.kind, Path: strings.TrimSpace(path), ReadOnly: readOnly || v.readOnly})
	}
	return nil
}
