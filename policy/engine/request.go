// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"

	"cofferdam.dev/policy"
)

// Patterns that targets must match; they are part of the input, as hcsshim passes them.
const (
	DeviceTarget   = "/run/mounts/scsi/m[0-9]+"
	RWDeviceTarget = "/run/gcs/c/([0-9a-fA-F]{64}|sandbox)" // a container's writable layer, or the group's volumes
	Plan9Target    = "/mounts/m[0-9]+"
	GuestRoot      = "/run/gcs/c"
)

// ID is a user or group as the guest resolved it: number and name.
type ID struct {
	ID   string
	Name string
}

// Process is what a process is started with.
type Process struct {
	Args            []string
	Env             []string // NAME=VALUE
	WorkingDir      string
	User            ID
	Groups          []ID
	Umask           string // octal, four digits: "0022"
	NoNewPrivileges bool
	Capabilities    policy.Capabilities
}

// CreateInput is a request to create a container.
type CreateInput struct {
	ContainerID string
	Process
	Mounts               []policy.Mount // Source is the path in the guest
	SandboxDir           string         // where sandbox:// sources lie
	HugePagesDir         string         // where hugepages:// sources lie
	Privileged           bool
	SandboxContainer     bool
	SeccompProfileSHA256 string
	Devices              []map[string]any // any device is denied
}

// ExecInput is a request to start a further process in a container.
type ExecInput struct {
	ContainerID string
	Process
}

// SignalInput is a request to signal a process of a container. Args is the signalled process's command.
type SignalInput struct {
	ContainerID string
	Signal      int
	Init        bool // the container's first process
	Args        []string
}

// Requests are the typed forms of the enforcement points. An Engine answers each on its own, a Tx as one unit.
type Requests struct {
	decide func(context.Context, Point, map[string]any) (Decision, error)
}

// NewRequests returns typed forms that ask whoever is given: a recorder, for one, that wants the same inputs.
func NewRequests(decide func(ctx context.Context, point Point, input map[string]any) (Decision, error)) Requests {
	return Requests{decide: decide}
}

// ask denies when nobody is there to decide.
func (r Requests) ask(ctx context.Context, point Point, input map[string]any) (Decision, error) {
	if r.decide == nil {
		err := errors.New("request has no engine")
		return denied(point, err.Error()), err
	}
	return r.decide(ctx, point, input)
}

// MountDevice asks to mount the read-only device whose dm-verity root is hash at target.
func (r Requests) MountDevice(ctx context.Context, target, hash string) (Decision, error) {
	return r.ask(ctx, PointMountDevice, map[string]any{
		"target": target, "deviceHash": hash, "mountPathRegex": DeviceTarget,
	})
}

// UnmountDevice asks to unmount a read-only device.
func (r Requests) UnmountDevice(ctx context.Context, target string) (Decision, error) {
	return r.ask(ctx, PointUnmountDevice, map[string]any{"unmountTarget": target})
}

// RWMountDevice asks to mount a writable device at target: encrypted under a key that the guest made, with a file
// system that the guest makes.
func (r Requests) RWMountDevice(ctx context.Context, target string, encrypted, ensureFilesystem bool, filesystem string) (Decision, error) {
	return r.ask(ctx, PointRWMountDevice, map[string]any{
		"target": target, "encrypted": encrypted, "ensureFilesystem": ensureFilesystem, "filesystem": filesystem,
		"mountPathRegex": RWDeviceTarget,
	})
}

// RWUnmountDevice asks to unmount a writable device.
func (r Requests) RWUnmountDevice(ctx context.Context, target string) (Decision, error) {
	return r.ask(ctx, PointRWUnmountDevice, map[string]any{"unmountTarget": target})
}

// MountOverlay asks to stack mounted layers (top layer first) into the root file system of a container.
func (r Requests) MountOverlay(ctx context.Context, containerID string, layerPaths []string, target string) (Decision, error) {
	return r.ask(ctx, PointMountOverlay, map[string]any{
		"containerID": containerID, "layerPaths": list(layerPaths), "target": target,
	})
}

// UnmountOverlay asks to take a root file system down.
func (r Requests) UnmountOverlay(ctx context.Context, target string) (Decision, error) {
	return r.ask(ctx, PointUnmountOverlay, map[string]any{"unmountTarget": target})
}

// ScratchMount asks to use target as the writable layer of overlays.
func (r Requests) ScratchMount(ctx context.Context, target string, encrypted bool) (Decision, error) {
	return r.ask(ctx, PointScratchMount, map[string]any{"target": target, "encrypted": encrypted})
}

// ScratchUnmount asks to give a writable layer up.
func (r Requests) ScratchUnmount(ctx context.Context, target string) (Decision, error) {
	return r.ask(ctx, PointScratchUnmount, map[string]any{"unmountTarget": target})
}

// CreateContainer asks to create a container. The decision holds what is kept of environment and capabilities, and
// whether its standard streams may reach the host.
func (r Requests) CreateContainer(ctx context.Context, in CreateInput) (Decision, error) {
	m := in.input()
	m["containerID"] = in.ContainerID
	mounts := make([]any, len(in.Mounts))
	for i, x := range in.Mounts {
		mounts[i] = map[string]any{
			"destination": x.Destination, "options": list(x.Options), "source": x.Source, "type": x.Type,
		}
	}
	devices := make([]any, len(in.Devices))
	for i, d := range in.Devices {
		devices[i] = d
	}
	m["mounts"], m["devices"] = mounts, devices
	m["sandboxDir"], m["hugePagesDir"] = in.SandboxDir, in.HugePagesDir
	m["privileged"], m["isSandboxContainer"] = in.Privileged, in.SandboxContainer
	m["seccompProfileSHA256"] = in.SeccompProfileSHA256
	return r.ask(ctx, PointCreateContainer, m)
}

// ExecInContainer asks to start a further process in a container.
func (r Requests) ExecInContainer(ctx context.Context, in ExecInput) (Decision, error) {
	m := in.input()
	m["containerID"] = in.ContainerID
	return r.ask(ctx, PointExecInContainer, m)
}

// ExecExternal asks to start a process in the guest, outside all containers.
func (r Requests) ExecExternal(ctx context.Context, args, env []string, workingDir string) (Decision, error) {
	return r.ask(ctx, PointExecExternal, map[string]any{
		"argList": list(args), "envList": list(env), "workingDir": workingDir,
	})
}

// SignalContainerProcess asks to signal a process of a container.
func (r Requests) SignalContainerProcess(ctx context.Context, in SignalInput) (Decision, error) {
	return r.ask(ctx, PointSignalContainerProcess, map[string]any{
		"containerID": in.ContainerID, "signal": in.Signal, "isInitProcess": in.Init, "argList": list(in.Args),
	})
}

// ShutdownContainer asks to end a container.
func (r Requests) ShutdownContainer(ctx context.Context, containerID string) (Decision, error) {
	return r.ask(ctx, PointShutdownContainer, map[string]any{"containerID": containerID})
}

// GetProperties asks for process lists and usage figures.
func (r Requests) GetProperties(ctx context.Context) (Decision, error) {
	return r.ask(ctx, PointGetProperties, map[string]any{})
}

// DumpStacks asks for the agent's goroutine stacks.
func (r Requests) DumpStacks(ctx context.Context) (Decision, error) {
	return r.ask(ctx, PointDumpStacks, map[string]any{})
}

// RuntimeLogging asks to send the agent's log to the host.
func (r Requests) RuntimeLogging(ctx context.Context) (Decision, error) {
	return r.ask(ctx, PointRuntimeLogging, map[string]any{})
}

// HostNetwork asks to run a container in the network namespace of the guest.
func (r Requests) HostNetwork(ctx context.Context) (Decision, error) {
	return r.ask(ctx, PointHostNetwork, map[string]any{})
}

// Plan9Mount asks to mount a directory that the host serves, at target.
func (r Requests) Plan9Mount(ctx context.Context, target string) (Decision, error) {
	return r.ask(ctx, PointPlan9Mount, map[string]any{
		"target": target, "rootPrefix": GuestRoot, "mountPathPrefix": Plan9Target,
	})
}

// Plan9Unmount asks to unmount a directory that the host serves.
func (r Requests) Plan9Unmount(ctx context.Context, target string) (Decision, error) {
	return r.ask(ctx, PointPlan9Unmount, map[string]any{"unmountTarget": target})
}

func (p Process) input() map[string]any {
	groups := make([]any, len(p.Groups))
	for i, g := range p.Groups {
		groups[i] = map[string]any{"id": g.ID, "name": g.Name}
	}
	c := p.Capabilities
	return map[string]any{
		"argList": list(p.Args), "envList": list(p.Env), "workingDir": p.WorkingDir,
		"user":   map[string]any{"id": p.User.ID, "name": p.User.Name},
		"groups": groups, "umask": p.Umask, "noNewPrivileges": p.NoNewPrivileges,
		"capabilities": map[string]any{
			"ambient": list(c.Ambient), "bounding": list(c.Bounding), "effective": list(c.Effective),
			"inheritable": list(c.Inheritable), "permitted": list(c.Permitted),
		},
	}
}

// list makes a JSON-like array, never null.
func list(s []string) []any {
	out := make([]any, len(s))
	for i, x := range s {
		out[i] = x
	}
	return out
}
