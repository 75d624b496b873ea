// SPDX-License-Identifier: Apache-2.0

// Package spec is what a person asks for: a group of containers, in one model behind every way to write it down.
//
// It reads and checks descriptions and nothing else; it opens no image and no file, and asks no network. It trusts
// nothing that it reads, and accepts nothing that could mean two things.
package spec

// Group is a set of containers that share one machine.
type Group struct {
	Name       string
	Containers []Container

	CPUs      int
	MemoryMiB int
	Ports     []Port

	// Debug allows shells in every container, stack dumps and the agent's log.
	Debug bool
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
}

// EnvVar is an environment variable with a fixed value.
type EnvVar struct {
	Name  string
	Value string
}

// MountKind says where a mount's content comes from.
type MountKind string

// The kinds of mounts.
const (
	MountEmptyDir  MountKind = "emptydir"
	MountAzureFile MountKind = "azureFileVolume"
	MountSecret    MountKind = "secretsVolume"
	MountGitRepo   MountKind = "gitRepoVolume"
)

// Mount is a directory of a container that does not come from its image.
type Mount struct {
	Kind     MountKind
	Path     string
	ReadOnly bool
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
	HostPort  int
	GuestPort int
}
