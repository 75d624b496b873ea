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
	content  *spec.Volume // of the group; nil on the virtual node, which brings its own
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
		if content := p.volumes[name].content; content != nil {
			content.Name, content.Kind = name, p.volumes[name].kind
			p.group.Volumes = append(p.group.Volumes, *content)
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
		return p.emptyDirectory(v.Get(kind))
	case slices.Contains(readOnlyKinds, kind):
		if p.options.VirtualNode {
			return volume{kind: spec.MountEmptyDir, readOnly: true}, nil
		}
		files, err := p.content(kind, v.Get(kind))
		return volume{kind: spec.MountSecret, readOnly: true, content: &spec.Volume{Files: files}}, err
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

// emptyDirectory reads where a directory is kept, and how much it may hold.
func (p *pod) emptyDirectory(v *doc.Value) (volume, error) {
	out := volume{kind: spec.MountEmptyDir}
	if p.options.VirtualNode {
		return out, nil
	}
	out.content = &spec.Volume{}
	if v.IsNull() {
		return out, nil
	}
	if err := checkKeys(v, "medium", "sizeLimit"); err != nil {
		return out, err
	}
	medium, err := text(v, "medium")
	if err != nil {
		return out, err
	}
	if medium != "" && medium != "Memory" {
		return out, v.Errorf("medium %q of an emptyDir is not supported, only Memory", medium)
	}
	out.content.Memory = medium == "Memory"
	if limit := v.Get("sizeLimit"); !limit.IsNull() {
		out.content.SizeLimitBytes, err = whole(limit, 1)
	}
	return out, err
}

func (p *pod) mounts(c *doc.Value, env *environment, out *spec.Container) error {
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
		mount := spec.Mount{Kind: v.kind, Path: strings.TrimSpace(path), ReadOnly: readOnly || v.readOnly}
		if v.content != nil {
			mount.Volume = name
			if mount.SubPath, err = part(m, env); err != nil {
				return err
			}
		}
		out.Mounts = append(out.Mounts, mount)
	}
	return nil
}

// part reads which part of a volume is mounted.
func part(m *doc.Value, env *environment) (string, error) {
	plain, err := text(m, "subPath")
	if err != nil {
		return "", err
	}
	pattern, err := text(m, "subPathExpr")
	switch {
	case err != nil:
		return "", err
	case plain != "" && pattern != "":
		return "", m.Errorf("a mount has both subPath and subPathExpr")
	case pattern != "":
		if plain, err = env.expand(pattern); err != nil {
			return "", m.Get("subPathExpr").Errorf("%w", err)
		}
	}
	if plain == "" {
		return "", nil
	}
	return strings.TrimSuffix(plain, "/"), nil
}
