// SPDX-License-Identifier: Apache-2.0

package lint

import (
	"cofferdam.dev/policy/engine"
)

// probe is a request that no policy has a reason to allow.
type probe struct {
	point engine.Point
	what  string
	input map[string]any
	// unless names the switch that allows it.
	unless string
}

// windowsPoints exist in texts and are never asked for here.
var windowsPoints = []string{string(engine.PointMountCIMs), string(engine.PointRegistryChanges), string(engine.PointLogProvider)}

const (
	alien     = "00000000000000000000000000000000000000000000000000000000c0ffe0da"
	alienPath = "/cofferdam/lint/probe"
)

func alienProcess() map[string]any {
	return map[string]any{
		"containerID": alien, "argList": []any{alienPath}, "envList": []any{"LD_PRELOAD=" + alienPath}, "workingDir": alienPath,
		"user": map[string]any{"id": "4242", "name": "probe"}, "groups": []any{}, "umask": "0000", "noNewPrivileges": false,
		"capabilities": map[string]any{
			"ambient": []any{}, "bounding": []any{}, "effective": []any{"CAP_SYS_ADMIN"}, "inheritable": []any{}, "permitted": []any{},
		},
	}
}

func alienContainer() map[string]any {
	in := alienProcess()
	in["mounts"], in["devices"] = []any{}, []any{}
	in["sandboxDir"], in["hugePagesDir"] = alienPath, alienPath
	in["privileged"], in["isSandboxContainer"] = true, false
	in["seccompProfileSHA256"] = alien
	return in
}

var unmount = map[string]any{"unmountTarget": alienPath}

// probes are asked in this order of a fresh policy; those that are allowed change its state and open nothing to the
// next ones, which name other things.
var probes = []probe{
	{engine.PointMountDevice, "a layer that no container lists", map[string]any{
		"target": "/run/mounts/scsi/m4242", "deviceHash": alien, "mountPathRegex": engine.DeviceTarget}, ""},
	{engine.PointMountOverlay, "layers that were never mounted", map[string]any{
		"containerID": alien, "layerPaths": []any{alienPath}, "target": alienPath}, ""},
	{engine.PointCreateContainer, "a container that is not listed", alienContainer(), ""},
	{engine.PointExecInContainer, "any command in a container that does not exist", alienProcess(), ""},
	{engine.PointExecExternal, "any command in the guest", alienProcess(), ""},
	{engine.PointSignalContainerProcess, "signals to a container that does not exist", map[string]any{
		"containerID": alien, "signal": 9, "isInitProcess": true, "argList": []any{}}, ""},
	{engine.PointShutdownContainer, "an end of a container that does not exist", map[string]any{"containerID": alien}, ""},
	{engine.PointRWMountDevice, "a writable disk anywhere, as it is", map[string]any{
		"target": alienPath, "encrypted": false, "ensureFilesystem": false, "filesystem": "probe", "mountPathRegex": engine.RWDeviceTarget}, ""},
	{engine.PointPlan9Mount, "a directory of the host, for no container", map[string]any{
		"target": alienPath, "rootPrefix": engine.GuestRoot, "mountPathPrefix": engine.Plan9Target}, ""},
	{engine.PointLoadFragment, "fragments of any issuer", map[string]any{
		"issuer": "did:x509:0:sha256:probe", "feed": "probe", "namespace": "probe", "fragment_loaded": false,
		"has_header_svn": true, "header_svn": 1 << 30, "receipts": []any{}}, ""},
	{engine.PointLoadTrustList, "trust lists of any issuer", map[string]any{
		"issuer": "probe", "subject": "probe", "svn": 1 << 30, "ledgers": []any{"probe"}}, ""},
	{engine.PointUnmountDevice, "unmounting what is not mounted", unmount, ""},
	{engine.PointRWUnmountDevice, "unmounting what is not mounted", unmount, ""},
	{engine.PointUnmountOverlay, "unmounting what is not mounted", unmount, ""},
	{engine.PointPlan9Unmount, "unmounting what is not mounted", unmount, ""},
	{engine.PointScratchUnmount, "unmounting what is not mounted", unmount, ""},
	{engine.PointMountBlockdev, "raw block devices", map[string]any{"target": alienPath}, ""},
	{engine.PointUnmountBlockdev, "raw block devices", unmount, ""},
	// The host may have these where a switch says so.
	{engine.PointScratchMount, "writable layers in clear", map[string]any{"target": alienPath, "encrypted": false}, "allow_unencrypted_scratch"},
	{engine.PointGetProperties, "listing processes", nil, "allow_properties_access"},
	{engine.PointDumpStacks, "reading the agent's stacks", nil, "allow_dump_stacks"},
	{engine.PointRuntimeLogging, "reading the agent's log", nil, "allow_runtime_logging"},
	{engine.PointHostNetwork, "containers in the guest's network", nil, "allow_host_network"},
}
