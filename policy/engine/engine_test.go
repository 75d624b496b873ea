// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func wantDenied(t *testing.T, d Decision, err error, reasons ...string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", d.Point, err)
	}
	if d.Allowed {
		t.Fatalf("%s: allowed", d.Point)
	}
	if diff := cmp.Diff(reasons, d.Reasons); diff != "" {
		t.Errorf("%s: reasons (-want +got):\n%s", d.Point, diff)
	}
}

// snapshot is the whole state as text.
func snapshot(e *Engine) string {
	v, _ := e.store.state.read(nil)
	return v.String()
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := mustLoad(t, groupPolicy(2))
	start(t, e, 1)
	id := testID2(1)

	d, err := e.CreateContainer(ctx, testCreate(id, 1))
	wantDenied(t, d, err, "container already started")

	exec := ExecInput{ContainerID: id, Process: testProcess(1)}
	exec.Args = []string{"/bin/sh"}
	d, err = e.ExecInContainer(ctx, exec)
	mustAllow(t, d, err)
	if !d.AllowStdio || !slices.Equal(d.EnvList, exec.Env) || !slices.Equal(d.Capabilities.Bounding, exec.Capabilities.Bounding) {
		t.Errorf("exec: %+v", d)
	}

	for name, c := range map[string]struct {
		in   SignalInput
		deny bool
	}{
		"listed for init":   {SignalInput{id, 9, true, nil}, false},
		"unlisted for init": {SignalInput{id, 1, true, nil}, true},
		"listed for exec":   {SignalInput{id, 2, false, []string{"/bin/sh"}}, false},
		"init's for exec":   {SignalInput{id, 9, false, []string{"/bin/sh"}}, true},
		"unlisted command":  {SignalInput{id, 2, false, []string{"/bin/su"}}, true},
		"another container": {SignalInput{testID2(0), 9, true, nil}, true},
	} {
		d, err := e.SignalContainerProcess(ctx, c.in)
		if err != nil || d.Allowed == c.deny || c.deny && len(d.Reasons) == 0 {
			t.Errorf("signal %s: %+v, %v", name, d, err)
		}
	}

	d, err = e.ShutdownContainer(ctx, id)
	mustAllow(t, d, err)
	d, err = e.ShutdownContainer(ctx, id)
	wantDenied(t, d, err, "container not started")
	d, err = e.SignalContainerProcess(ctx, SignalInput{id, 9, true, nil})
	wantDenied(t, d, err, "container not started", "target isn't allowed to receive the signal")
	if d, err = e.CreateContainer(ctx, testCreate(id, 1)); err != nil || d.Allowed {
		t.Errorf("container was created again: %+v, %v", d, err)
	}
}

// TestDenialsChangeNothing makes requests that must be denied in this state, for the one reason, and leave no trace.
func TestDenialsChangeNothing(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := mustLoad(t, groupPolicy(2))
	start(t, e, 0)
	layers := testContainer(1).Layers
	const scratch = GuestRoot + "/" + testID
	d, err := e.RWMountDevice(ctx, scratch, true, true, "ext4")
	mustAllow(t, d, err)
	before := snapshot(e)
	mounted := func(layers ...int) []string {
		var paths []string
		for _, l := range layers {
			paths = append(paths, fmt.Sprintf("/run/mounts/scsi/m%d", l))
		}
		return paths
	}
	for name, c := range map[string]struct {
		ask  func() (Decision, error)
		want string
	}{
		"unknown layer":    {func() (Decision, error) { return e.MountDevice(ctx, "/run/mounts/scsi/m99", "0") }, "deviceHash not found"},
		"layer elsewhere":  {func() (Decision, error) { return e.MountDevice(ctx, "/etc", layers[5]) }, "mountpoint invalid"},
		"layer below":      {func() (Decision, error) { return e.MountDevice(ctx, "/run/mounts/scsi/m1/x", layers[5]) }, "mountpoint invalid"},
		"layer with tail":  {func() (Decision, error) { return e.MountDevice(ctx, "/run/mounts/scsi/m99\n", layers[5]) }, "mountpoint invalid"},
		"layer over layer": {func() (Decision, error) { return e.MountDevice(ctx, "/run/mounts/scsi/m0", layers[5]) }, "device already mounted at path"},
		"unmount nothing":  {func() (Decision, error) { return e.UnmountDevice(ctx, "/run/mounts/scsi/m99") }, "no device at path to unmount"},
		"unmount as layer": {func() (Decision, error) { return e.UnmountDevice(ctx, scratch) }, "received read-only unmount request, but device provided is read-write"},
		"unmount as rw":    {func() (Decision, error) { return e.RWUnmountDevice(ctx, "/run/mounts/scsi/m0") }, "received read-write unmount request, but device provided is read-only"},
		"rw over rw":       {func() (Decision, error) { return e.RWMountDevice(ctx, scratch, true, true, "xfs") }, "device already mounted at path"},
		"rw elsewhere":     {func() (Decision, error) { return e.RWMountDevice(ctx, "/mnt", true, true, "xfs") }, "mountpoint invalid"},
		"rw in clear":      {func() (Decision, error) { return e.RWMountDevice(ctx, GuestRoot+"/"+testID2(7), false, true, "xfs") }, "unencrypted scratch not allowed, non-readonly mount request for SCSI disk must request encryption"},
		"rw as it is":      {func() (Decision, error) { return e.RWMountDevice(ctx, GuestRoot+"/"+testID2(7), true, false, "xfs") }, "ensureFilesystem must be set on rw device mounts"},
		"rw file system":   {func() (Decision, error) { return e.RWMountDevice(ctx, GuestRoot+"/"+testID2(7), true, true, "btrfs") }, "rw device mounts uses a filesystem that is not allowed"},
		"overlay twice": {func() (Decision, error) {
			return e.MountOverlay(ctx, testID2(0), mounted(7, 6, 5, 4, 3, 2, 1, 0), "/x")
		}, "overlay has already been mounted"},
		"overlay order":   {func() (Decision, error) { return e.MountOverlay(ctx, testID, mounted(0, 1, 2, 3, 4, 5, 6, 7), "/x") }, "no matching containers for overlay"},
		"overlay subset":  {func() (Decision, error) { return e.MountOverlay(ctx, testID, mounted(3, 2, 1, 0), "/x") }, "no matching containers for overlay"},
		"overlay of none": {func() (Decision, error) { return e.MountOverlay(ctx, testID, nil, "/x") }, "no matching containers for overlay"},
		"overlay with hole": {func() (Decision, error) {
			return e.MountOverlay(ctx, testID, mounted(7, 6, 5, 4, 99, 3, 2, 1, 0), "/x")
		}, "no matching containers for overlay"},
		"no overlay":       {func() (Decision, error) { return e.UnmountOverlay(ctx, "/x") }, "no overlay at path to unmount"},
		"shutdown early":   {func() (Decision, error) { return e.ShutdownContainer(ctx, testID2(1)) }, "container not started"},
		"dump stacks":      {func() (Decision, error) { return e.DumpStacks(ctx) }, "dump_stacks is not allowed: allow_dump_stacks is false"},
		"runtime logging":  {func() (Decision, error) { return e.RuntimeLogging(ctx) }, "runtime_logging is not allowed: allow_runtime_logging is false"},
		"host network":     {func() (Decision, error) { return e.HostNetwork(ctx) }, "policy of api_version 0.11.0 does not know host_network"},
		"host directory":   {func() (Decision, error) { return e.Plan9Mount(ctx, "/mnt") }, "mountpoint invalid"},
		"no directory":     {func() (Decision, error) { return e.Plan9Unmount(ctx, "/mnt") }, "no device at path to unmount"},
		"scratch in clear": {func() (Decision, error) { return e.ScratchMount(ctx, "/s", false) }, "unencrypted scratch not allowed"},
		"no scratch":       {func() (Decision, error) { return e.ScratchUnmount(ctx, "/s") }, "no scratch at path to unmount"},
		"block device":     {func() (Decision, error) { return e.Decide(ctx, PointMountBlockdev, nil) }, "policy of api_version 0.11.0 does not know mount_blockdev"},
		"Windows":          {func() (Decision, error) { return e.Decide(ctx, PointMountCIMs, nil) }, "rule for mount_cims is missing from policy"},
		"unknown point":    {func() (Decision, error) { return e.Decide(ctx, "reboot", nil) }, `enforcement point "reboot" is unknown`},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := c.ask()
			wantDenied(t, d, err, c.want)
			if after := snapshot(e); after != before {
				t.Errorf("state changed:\n%s\n%s", before, after)
			}
		})
	}
}

func TestTransaction(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := mustLoad(t, groupPolicy(1))
	layer := testContainer(0).Layers[0]
	before := snapshot(e)

	tx, err := e.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	d, err := tx.MountDevice(ctx, "/run/mounts/scsi/m1", layer)
	mustAllow(t, d, err)
	d, err = tx.MountDevice(ctx, "/run/mounts/scsi/m1", layer)
	wantDenied(t, d, err, "device already mounted at path")
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if d, err := e.GetProperties(short); !errors.Is(err, context.DeadlineExceeded) || d.Allowed || len(d.Reasons) == 0 {
		t.Errorf("asked during a unit: %+v, %v", d, err)
	}
	tx.Rollback()
	tx.Rollback()
	if after := snapshot(e); strings.Contains(after, layer) {
		t.Errorf("rolled back, state is %s, was %s", after, before)
	}

	if tx, err = e.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	d, err = tx.MountDevice(ctx, "/run/mounts/scsi/m1", layer)
	mustAllow(t, d, err)
	tx.Commit()
	tx.Rollback()
	if d, err := tx.GetProperties(ctx); err == nil || d.Allowed {
		t.Errorf("a unit that has ended decides: %+v, %v", d, err)
	}
	d, err = e.UnmountDevice(ctx, "/run/mounts/scsi/m1")
	mustAllow(t, d, err)
}

// TestConcurrentCallers lets many callers want the same thing: one gets it.
func TestConcurrentCallers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	e := mustLoad(t, groupPolicy(1))
	layer := testContainer(0).Layers[0]
	var wg sync.WaitGroup
	results := make(chan bool, 16)
	for range cap(results) {
		wg.Go(func() {
			d, err := e.MountDevice(ctx, "/run/mounts/scsi/m1", layer)
			results <- err == nil && d.Allowed
		})
	}
	wg.Wait()
	close(results)
	n := 0
	for allowed := range results {
		if allowed {
			n++
		}
	}
	if n != 1 {
		t.Errorf("%d callers mounted at one path", n)
	}
}

// TestRootsShareLayers makes sure that candidates are told apart by all their layers, not by those they share.
func TestRootsShareLayers(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := groupPolicy(2)
	p.Containers[1].Layers = p.Containers[0].Layers
	e := mustLoad(t, p)
	start(t, e, 0)
	d, err := e.SignalContainerProcess(ctx, SignalInput{testID2(0), 9, true, nil})
	mustAllow(t, d, err)
	if n := strings.Count(snapshot(e), `"name": "c1"`); n != 0 {
		t.Errorf("a container whose command differs is still a candidate")
	}
	p.Containers[1].Command, p.Containers[1].AllowStdioAccess = p.Containers[0].Command, false
	e = mustLoad(t, p)
	mountAll(t, e, 0)
	d, err = e.CreateContainer(ctx, testCreate(testID2(0), 0))
	wantDenied(t, d, err, "containers only distinguishable by allow_stdio_access")
}

// mountAll does what start does, short of creating the container.
func mountAll(t testing.TB, e *Engine, i int) {
	t.Helper()
	ctx := context.Background()
	var paths []string
	for l, hash := range testContainer(i).Layers {
		target := fmt.Sprintf("/run/mounts/scsi/m%d", i*8+l)
		d, err := e.MountDevice(ctx, target, hash)
		mustAllow(t, d, err)
		paths = append(paths, target)
	}
	slices.Reverse(paths)
	d, err := e.MountOverlay(ctx, testID2(i), paths, GuestRoot+"/"+testID2(i)+"/rootfs")
	mustAllow(t, d, err)
}
