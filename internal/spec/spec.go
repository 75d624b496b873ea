// SPDX-License-Identifier: Apache-2.0

// Package spec is what a person asks for: a group of containers, in one model behind every way to write it down.
//
// It reads and checks descriptions and nothing else; it opens no image and no file, and asks no network. It trusts
// nothing that it reads, and accepts nothing that could mean two things.
package spec

import "time"

// Group is a set of containers that share one machine.
type Group struct {
	Name       string
	Containers []Container

	// Definitions are containers that are described completely already: their policy is what they say.
	Definitions []Definition

	// Platform is where the group is to run. The zero value is a machine of our own.
	Platform Platform

	// WorkloadIdentity lets the virtual node hand the containers a federated token.
	WorkloadIdentity bool

	// Origin says where in its file the group was found: a JSON path, or kind and name of a Kubernetes object.
	Origin string

	// ExistingPolicy is the base64 text of the policy that the description already holds, if any.
	ExistingPolicy string

	// ExcludeDefaultFragment is set by descriptions that want no fragment of the platform.
	ExcludeDefaultFragment bool

	// Fragments are those that the description imports. FragmentReferences are registry references of signed
	// fragments whose imports are not in the description.
	Fragments          []Fragment
	FragmentReferences []string

	CPUs      int
	MemoryMiB int
	Ports     []Port

	// Restart is the restart policy of the containers that have none of their own; empty is RestartAlways.
	Restart RestartPolicy
	// StopTimeout is how long each container may take to stop; nil is the usual time.
	StopTimeout *time.Duration
	Hostname    string
	DNS         DNS
	HostAliases []HostAlias
	// Egress limits what the containers may connect to; nil does not.
	Egress *Egress

	// Volumes are where mounts that name one get their content from.
	Volumes []Volume
	// Credentials are for the registries that the images come from.
	Credentials []RegistryCredential
	// Identities are the managed identities that the description assigns: resource IDs, or "SystemAssigned".
	Identities []string
	// Diagnostics says that the description sends its logs to a service of the platform's.
	Diagnostics bool
	// SKU is the product name that the description asks for: "Standard", "Dedicated", "Confidential" or empty.
	SKU string

	// Debug allows shells in every container, stack dumps and the agent's log.
	Debug bool

	// Profile says that the description is one of groups to come: it has a policy, and nothing of it is started.
	Profile bool
	// Unknown are parts that only a deployment knows and that no policy depends on, such as a password that another
	// resource makes up. They are left out of the model: whoever starts the group has to refuse, or to say so.
	Unknown []Warning
}

// Platform is where a group runs, which decides what is added to its containers.
type Platform string

// The platforms.
const (
	PlatformOwn         Platform = ""
	PlatformACI         Platform = "aci"
	PlatformVirtualNode Platform = "vn2"
)

// Definition is one container of a group in the form of the policy, as JSON.
type Definition struct {
	Name string
	Path string // where it was found
	JSON []byte
}

// Fragment imports signed policy fragments.
type Fragment struct {
	Issuer     string
	Feed       string
	MinimumSVN string
	Includes   []string

	RequiredReceipts []string // of transparency ledgers, by name
}

// Container is one container of a group. An empty field means what the image says.
type Container struct {
	Name  string
	Image string

	// Command replaces the image's entrypoint and its arguments; Args replaces the arguments alone.
	Command []string
	Args    []string

	Env        []EnvVar
	WorkingDir string

	// User is USER[:GROUP], names or numbers, as images write it. RunAsUser and RunAsGroup are numbers that win
	// over it.
	User       string
	RunAsUser  *int64
	RunAsGroup *int64

	Mounts []Mount

	// AllowExec are the further commands that may be started in the running container.
	AllowExec [][]string

	// AllowStdio lets the host read and write the container's standard streams.
	AllowStdio bool

	Privileged               bool
	AllowPrivilegeEscalation bool
	AddCapabilities          []string
	DropCapabilities         []string
	SeccompProfileSHA256     string
	// SeccompProfile is the profile itself, as JSON, where the description holds it.
	SeccompProfile []byte
	// ReadOnlyRoot makes the root filesystem read-only. A policy has no rule for it.
	ReadOnlyRoot bool
	// RunAsNonRoot refuses to start as user 0.
	RunAsNonRoot bool

	// Terminal and Stdin give the container a terminal, and an open standard input.
	Terminal bool
	Stdin    bool

	Resources Resources
	// Exposed are the container's ports that the group publishes or its neighbours use; they change nothing.
	Exposed []Port

	Life
}

// EnvVar is an environment variable.
type EnvVar struct {
	Name  string
	Value string

	// Regexp says that NAME=VALUE is a regular expression (RE2), for values that are not known in advance.
	Regexp bool

	// Secret says that the description calls the value secret. A policy is public, so its text gives it away.
	Secret bool
}

// MountKind says where a mount's content comes from.
type MountKind string

// The kinds of mounts.
const (
	MountEmptyDir   MountKind = "emptydir"
	MountAzureFile  MountKind = "azureFileVolume"
	MountSecret     MountKind = "secretsVolume"
	MountGitRepo    MountKind = "gitRepoVolume"
	MountResolvConf MountKind = "resolvconf"

	// MountTerminationLog is a file of the container's that the host may read when the container has ended. Groups on
	// machines of our own have it; the service does not know it.
	MountTerminationLog MountKind = "terminationLog"
)

// Mount is a directory of a container that does not come from its image.
type Mount struct {
	Kind     MountKind
	Path     string
	ReadOnly bool

	// Volume names the group's volume that is mounted; empty for one of this mount's own.
	Volume string
	// SubPath is the part of the volume that is mounted; empty for all of it.
	SubPath string

	// Options, if any, replace the usual ones.
	Options []string
}

// Protocol is that of a forwarded port.
type Protocol string

// The protocols.
const (
	TCP Protocol = "tcp"
	UDP Protocol = "udp"
)

// Port forwards a port of the host to one of the group.
type Port struct {
	Protocol  Protocol
	HostIP    string // empty: all addresses
	HostPort  int    // 0: any that is free; not used in Exposed
	GuestPort int
}
