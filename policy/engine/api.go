// SPDX-License-Identifier: Apache-2.0

package engine

// The newest versions that this engine knows.
const (
	APIVersion       = "0.12.0"
	FrameworkVersion = "0.5.0"
)

// fallback says what holds for an enforcement point that a policy does not mention.
type fallback int

const (
	deny      fallback = iota
	allow              // as policies written before the point existed expect
	framework          // the framework's own rule decides
)

// pointInfo describes an enforcement point. A policy whose api_version is at least since must have a rule for it, or
// the point is denied; for an older policy without the rule, older holds.
type pointInfo struct {
	since version
	older fallback
	// optional points are decided by the framework whenever a policy has no rule. The texts of api_version 0.11.0
	// that the confcom extension makes list rw_mount_device alone; without this a guest could never give a writable
	// device back.
	optional bool
}

var points = map[Point]pointInfo{
	PointMountDevice:            {since: version{0, 1, 0}, older: deny},
	PointMountOverlay:           {since: version{0, 1, 0}, older: deny},
	PointCreateContainer:        {since: version{0, 1, 0}, older: deny},
	PointUnmountDevice:          {since: version{0, 2, 0}, older: allow},
	PointExecInContainer:        {since: version{0, 2, 0}, older: allow},
	PointExecExternal:           {since: version{0, 3, 0}, older: allow},
	PointShutdownContainer:      {since: version{0, 4, 0}, older: allow},
	PointSignalContainerProcess: {since: version{0, 5, 0}, older: allow},
	PointUnmountOverlay:         {since: version{0, 6, 0}, older: allow},
	PointPlan9Mount:             {since: version{0, 6, 0}, older: allow},
	PointPlan9Unmount:           {since: version{0, 6, 0}, older: allow},
	PointGetProperties:          {since: version{0, 7, 0}, older: allow},
	PointDumpStacks:             {since: version{0, 7, 0}, older: allow},
	PointRuntimeLogging:         {since: version{0, 8, 0}, older: allow},
	PointLoadFragment:           {since: version{0, 9, 0}, older: deny},
	PointScratchMount:           {since: version{0, 10, 0}, older: allow},
	PointScratchUnmount:         {since: version{0, 10, 0}, older: allow},
	PointRWMountDevice:          {since: version{0, 11, 0}, older: framework},
	PointRWUnmountDevice:        {since: version{0, 11, 0}, older: framework, optional: true},
	PointMountBlockdev:          {since: version{0, 11, 1}, older: deny},
	PointUnmountBlockdev:        {since: version{0, 11, 1}, older: deny},
	PointLoadTrustList:          {since: version{0, 12, 0}, older: deny},
	PointHostNetwork:            {since: version{0, 12, 0}, older: deny},

	// Windows.
	PointMountCIMs:       {since: version{0, 11, 0}, older: deny},
	PointRegistryChanges: {since: version{0, 10, 0}, older: deny},
	PointLogProvider:     {since: version{0, 11, 0}, older: deny},
}
