// SPDX-License-Identifier: Apache-2.0

package engine

// Point is an enforcement point: a kind of host request that the policy is asked about.
type Point string

// The enforcement points. The Windows ones are always denied.
const (
	PointMountDevice            Point = "mount_device"
	PointUnmountDevice          Point = "unmount_device"
	PointRWMountDevice          Point = "rw_mount_device"
	PointRWUnmountDevice        Point = "rw_unmount_device"
	PointMountBlockdev          Point = "mount_blockdev"
	PointUnmountBlockdev        Point = "unmount_blockdev"
	PointMountOverlay           Point = "mount_overlay"
	PointUnmountOverlay         Point = "unmount_overlay"
	PointCreateContainer        Point = "create_container"
	PointExecInContainer        Point = "exec_in_container"
	PointExecExternal           Point = "exec_external"
	PointShutdownContainer      Point = "shutdown_container"
	PointSignalContainerProcess Point = "signal_container_process"
	PointPlan9Mount             Point = "plan9_mount"
	PointPlan9Unmount           Point = "plan9_unmount"
	PointGetProperties          Point = "get_properties"
	PointDumpStacks             Point = "dump_stacks"
	PointRuntimeLogging         Point = "runtime_logging"
	PointHostNetwork            Point = "host_network"
	PointLoadFragment           Point = "load_fragment"
	PointLoadTrustList          Point = "load_transparency_trust_list"
	PointScratchMount           Point = "scratch_mount"
	PointScratchUnmount         Point = "scratch_unmount"
	PointMountCIMs              Point = "mount_cims"
	PointRegistryChanges        Point = "registry_changes"
	PointLogProvider            Point = "log_provider"
)
