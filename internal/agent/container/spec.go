// SPDX-License-Identifier: Apache-2.0

package container

import (
	"github.com/opencontainers/runtime-spec/specs-go"

	"cofferdam.dev/policy"
)

// Spec is a container as the policy allowed it.
type Spec struct {
	ID     string // 64 lower-case hexadecimal digits
	Rootfs string // the mounted root filesystem
	Process

	Hostname string // empty: the first characters of ID
	Mounts   []Mount
	// Evidence is the directory of the guest's that the container has at evidencewire.Directory; empty: none.
	Evidence   string
	Privileged bool
	// ReadOnlyRoot mounts the root filesystem read-only for the container. It is no promise to anybody: no policy asks for it.
	ReadOnlyRoot bool
	Seccomp      *specs.LinuxSeccomp // nil: no filter

	// MemoryBytes and CPUMillis bound the container; zero means as much as all containers together may have.
	MemoryBytes uint64
	CPUMillis   uint32
}

// Mount binds a directory or file of the group into a container.
type Mount struct {
	Destination string
	// Source is a path below the directory of the group's volumes, "/CLASS/NAME" with one of the classes that
	// SourcePattern lists.
	Source  string
	Options []string
}

// terminationLog returns the source of the mount that is the container's termination log; empty without one.
func (s *Spec) terminationLog() string {
	for _, m := range s.Mounts {
		if IsTerminationLog(m.Source) {
			return m.Source
		}
	}
	return ""
}

// Process is one process of a container.
type Process struct {
	Args            []string
	Env             []string // NAME=VALUE, in order
	WorkingDir      string
	User            User
	NoNewPrivileges bool
	Capabilities    policy.Capabilities
	Stdio           Stdio
}

// Stdio says which standard streams a process has; the others, and all of the zero Stdio, are /dev/null.
type Stdio struct {
	Stdin, Stdout, Stderr bool
	// Terminal joins the streams on one pseudo-terminal; Stdin and Stdout are then its two directions.
	Terminal bool
}

// User is a user of a container, resolved in its root filesystem.
type User struct {
	Name   string // empty where the number has no name
	UID    uint32
	GID    uint32
	Group  string   // the name of GID, empty where it has none
	Extra  []uint32 // supplementary groups
	Groups []string // their names, by index, empty where they have none
}

// Umask is the file mode mask of every container process.
const Umask = 0o022

// Exit is how a process ended.
type Exit struct {
	// Code is 0 to 255; a process killed by signal N has 128+N.
	Code uint32
	// OutOfMemory says that the kernel killed a process of the container for want of memory.
	OutOfMemory bool
	// Message is the end of the container's termination log; nil without one.
	Message []byte
}

// Usage is what a container uses.
type Usage struct {
	MemoryBytes uint64
	CPUMicros   uint64
	PIDs        uint32
}
