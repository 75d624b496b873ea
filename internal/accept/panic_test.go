// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/guestimage"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/testcap"
)

// TestPanic lets a privileged container bring its own guest's kernel down. `run` has no flag for that, so the plan is
// made below the command line; the supervisor is the shipped one.
func TestPanic(t *testing.T) {
	needVM(t)
	h := home(t)
	plan := privileged(t, h, "sh", "-c", "echo c > /proc/sysrq-trigger")
	store, err := group.OpenStore(h)
	if err != nil {
		t.Fatal(err)
	}
	created, err := store.Create(plan)
	if err != nil {
		t.Fatal(err)
	}
	start, err := group.Start(created, group.StartOptions{Command: []string{testcap.Bin("cofferdam"), "--home", h, "supervise"}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = start.Close() }() // the group has ended
	err = start.Wait(t.Context(), group.StageContainers)
	if err != nil {
		t.Fatal(err)
	}
	var out string
	eventually(t, "the group has ended", func() error {
		out = must(t, h, "group", "inspect", plan.Name, "-o", "json").stdout
		if strings.Contains(out, `"state": "failed"`) {
			return nil
		}
		return fmt.Errorf("its record is %s", out)
	})
	if !strings.Contains(out, "the guest's kernel panicked") {
		t.Errorf("the record does not say that the kernel panicked:\n%s", out)
	}
	nothingRuns(t, h) // the record says so while the supervisor is still there
	must(t, h, "group", "rm", plan.Name)
}

// privileged plans a group of one privileged busybox.
func privileged(t *testing.T, home string, command ...string) *group.Plan {
	t.Helper()
	img, err := image.Open(t.Context(), ref("busybox"), image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := layer.OpenCache(filepath.Join(home, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cache.Close() }() // only read from
	entries, err := cache.GetAll(t.Context(), layer.Sources(img.Layers()), nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := spec.FromRunFlags(spec.RunFlags{Image: ref("busybox"), Name: "panic", Command: command, Memory: "512m", CPUs: 1})
	if err != nil {
		t.Fatal(err)
	}
	g.Containers[0].Privileged = true
	parts, err := assemble.Container(g, img, entries, assemble.Options{})
	if err != nil {
		t.Fatal(err)
	}
	emulator, err := qemu.Probe(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	choice, err := qemu.Choose(qemu.TCG, qemu.Simulated, qemu.DetectHost("/"), emulator, func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	guest, err := guestimage.Current(home)
	if err != nil {
		t.Fatal(err)
	}
	boot, err := assemble.Boot(guest, choice.TEE, choice.Accelerator, "", g.CPUs)
	if err != nil {
		t.Fatal(err)
	}
	plan := assemble.Group(g, parts, parts.Policy.Text(), choice, boot, guest.Digest())
	plan.QEMU, plan.Network = emulator.Path, "none"
	return plan
}
