// SPDX-License-Identifier: Apache-2.0

package policygen

import (
	"context"
	"slices"
	"testing"

	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

// TestGeneratedPolicyIsEnforced starts the container that a generated policy describes, and only that.
func TestGeneratedPolicyIsEnforced(t *testing.T) {
	t.Parallel()
	c, p := generate(t, nil)
	e, err := engine.New(p.Text(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	const id = "00000000000000000000000000000000000000000000000000000000000000aa"
	ctx := context.Background()
	check := func(d engine.Decision, err error) {
		t.Helper()
		if err != nil || !d.Allowed {
			t.Fatalf("%s: %q, %v", d.Point, d.Reasons, err)
		}
	}
	check(e.MountDevice(ctx, "/run/mounts/scsi/m0", c.Layers[0]))
	check(e.RWMountDevice(ctx, "/run/gcs/c/"+id, true, true, "ext4"))
	check(e.MountOverlay(ctx, id, []string{"/run/mounts/scsi/m0"}, "/run/gcs/c/"+id+"/rootfs"))
	const sandbox = "/run/gcs/c/sandbox/sandboxMounts"
	in := engine.CreateInput{
		ContainerID: id, SandboxDir: sandbox, HugePagesDir: "/run/gcs/c/sandbox/hugepages",
		Process: engine.Process{
			Args: []string{"/entry", "serve", "-x"}, WorkingDir: "/srv", Umask: "0022", Capabilities: c.Capabilities,
			Env:  []string{"PATH=/bin", "MODE=image", "TERM=xterm", "HOSTNAME=web"},
			User: engine.ID{ID: "33", Name: "www"}, Groups: []engine.ID{{ID: "33", Name: "www"}},
		},
		Mounts: []policy.Mount{
			{Destination: "/data", Type: "bind", Options: []string{"rbind", "rshared", "rw"}, Source: sandbox + "/tmp/atlas/emptydir/data"},
			{Destination: "/etc/resolv.conf", Type: "bind", Options: []string{"rbind", "rshared", "rw"}, Source: sandbox + "/tmp/atlas/resolvconf/x"},
		},
	}
	other := in
	other.Args = []string{"/entry", "serve"}
	d, err := e.CreateContainer(ctx, other)
	if err != nil || d.Allowed || !slices.Contains(d.Reasons, "invalid command") {
		t.Errorf("another command: %+v, %v", d, err)
	}
	d, err = e.CreateContainer(ctx, in)
	check(d, err)
	if !slices.Equal(d.EnvList, in.Env) || !d.AllowStdio {
		t.Errorf("kept %q, standard streams %v", d.EnvList, d.AllowStdio)
	}
	check(e.SignalContainerProcess(ctx, engine.SignalInput{ContainerID: id, Signal: 3, Init: true, Args: in.Args}))
	check(e.GetProperties(ctx))
	if d, err := e.DumpStacks(ctx); err != nil || d.Allowed {
		t.Errorf("stacks of a production group: %+v, %v", d, err)
	}
	check(e.ShutdownContainer(ctx, id))
	check(e.UnmountOverlay(ctx, "/run/gcs/c/"+id+"/rootfs"))
	check(e.RWUnmountDevice(ctx, "/run/gcs/c/"+id))
	check(e.UnmountDevice(ctx, "/run/mounts/scsi/m0"))
}
