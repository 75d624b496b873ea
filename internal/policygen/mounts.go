// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"path"
	"slices"

	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

// resolver is where every container finds how to resolve names.
const resolver = "/etc/resolv.conf"

// Mounts of the virtual node. All of them come from empty directories that the node fills.
var (
	nodeMounts = []spec.Mount{
		{Kind: spec.MountEmptyDir, Path: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true},
		{Kind: spec.MountEmptyDir, Path: "/etc/hosts"},
		{Kind: spec.MountEmptyDir, Path: "/dev/termination-log"},
		{Kind: spec.MountEmptyDir, Path: "/etc/hostname"},
	}
	nodePrivilegedMounts = []spec.Mount{
		{Kind: spec.MountEmptyDir, Path: "/sys/fs/cgroup"}, {Kind: spec.MountEmptyDir, Path: "/sys"},
	}
	nodeIdentityMount = spec.Mount{Kind: spec.MountEmptyDir, Path: "/var/run/secrets/azure/tokens", ReadOnly: true}
)

// mounts lists the description's mounts and the image's volumes, and what every container gets from its platform.
func mounts(g *spec.Group, c spec.Container, volumes []string, o Options) []policy.Mount {
	node := g.Platform == spec.PlatformVirtualNode
	identity := node && g.WorkloadIdentity
	var list []spec.Mount
	if identity && !o.ConfcomJSON {
		list = append(list, nodeIdentityMount)
	}
	list = append(list, c.Mounts...)
	for _, volume := range slices.Sorted(slices.Values(volumes)) {
		list = appendMount(list, spec.Mount{Kind: spec.MountEmptyDir, Path: path.Clean("/" + volume)})
	}
	if node && c.Privileged {
		list = append(list, nodePrivilegedMounts...)
	}
	if identity && o.ConfcomJSON {
		list = append(list, nodeIdentityMount)
	}
	names := spec.Mount{Kind: spec.MountResolvConf, Path: resolver}
	if node {
		names.Kind = spec.MountEmptyDir
	}
	list = appendMount(list, names)
	if node {
		list = append(list, nodeMounts...)
	}
	out := make([]policy.Mount, 0, len(list))
	for _, m := range list {
		out = append(out, mount(m))
	}
	return out
}

// appendMount adds a mount unless its place is taken.
func appendMount(list []spec.Mount, m spec.Mount) []spec.Mount {
	if slices.ContainsFunc(list, func(n spec.Mount) bool { return n.Path == m.Path }) {
		return list
	}
	return append(list, m)
}

func mount(m spec.Mount) policy.Mount {
	options := m.Options
	if len(options) == 0 {
		options = []string{"rbind", "rshared", "rw"}
		if m.ReadOnly {
			options[2] = "ro"
		}
	}
	return policy.Mount{Destination: m.Path, Options: options, Source: sandboxDirectory + string(m.Kind) + "/.+", Type: "bind"}
}
