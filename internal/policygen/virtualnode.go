// SPDX-License-Identifier: Apache-2.0

package policygen

import "cofferdam.dev/internal/spec"

// What Azure's virtual node adds to the containers of a pod. It hands every file over by way of an empty directory.
var (
	// serviceVariables are those by which a pod finds the cluster's services.
	serviceVariables = []string{
		"[A-Z0-9_]+_SERVICE_HOST=.+", "[A-Z0-9_]+_SERVICE_PORT=.+", "[A-Z0-9_]+_SERVICE_PORT_[A-Z0-9_]+=.+",
		"[A-Z0-9_]+_PORT=.+", "[A-Z0-9_]+_PORT_[0-9]+_TCP=.+", "[A-Z0-9_]+_PORT_[0-9]+_TCP_PROTO=.+",
		"[A-Z0-9_]+_PORT_[0-9]+_TCP_PORT=.+", "[A-Z0-9_]+_PORT_[0-9]+_TCP_ADDR=.+",
	}

	virtualNodeMounts = []spec.Mount{
		{Kind: spec.MountEmptyDir, Path: "/etc/resolv.conf"},
		{Kind: spec.MountEmptyDir, Path: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true},
		{Kind: spec.MountEmptyDir, Path: "/etc/hosts"},
		{Kind: spec.MountEmptyDir, Path: "/dev/termination-log"},
		{Kind: spec.MountEmptyDir, Path: "/etc/hostname"},
	}

	privilegedMounts = []spec.Mount{
		{Kind: spec.MountEmptyDir, Path: "/sys/fs/cgroup"}, {Kind: spec.MountEmptyDir, Path: "/sys"},
	}

	// workloadIdentityNames are variables that workload identity sets, and identityMount the token that it brings.
	workloadIdentityNames = []string{"AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"}

	identityMount = spec.Mount{Kind: spec.MountEmptyDir, Path: "/var/run/secrets/azure/tokens", ReadOnly: true}
)

// identityVariables are the variables of workload identity, after those of the description.
func identityVariables(c spec.Container, g spec.Group) []spec.EnvVar {
	vars := c.Env[:len(c.Env):len(c.Env)]
	if g.Platform != spec.PlatformVirtualNode || !g.WorkloadIdentity {
		return vars
	}
	for _, name := range workloadIdentityNames {
		vars = append(vars, spec.EnvVar{Name: name, Value: ".+", Regexp: true})
	}
	return vars
}

// identityMounts are those that the virtual node adds by what a pod asks for.
func identityMounts(c spec.Container, g spec.Group) []spec.Mount {
	var out []spec.Mount
	if g.Platform != spec.PlatformVirtualNode {
		return nil
	}
	if g.WorkloadIdentity {
		out = append(out, identityMount)
	}
	if c.Privileged {
		out = append(out, privilegedMounts...)
	}
	return out
}
