// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/testimage"
	"cofferdam.dev/policy"
	"cofferdam.dev/policy/engine"
)

// openTiny opens the scripts' tiny image and converts its layers.
func openTiny(t *testing.T) (*image.Image, []layer.Entry, string) {
	t.Helper()
	img, err := testimage.Tiny()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	err = l.AppendImage(img)
	if err != nil {
		t.Fatal(err)
	}
	ref := "oci:" + dir
	opened, err := image.Open(t.Context(), ref, image.Options{})
	if err != nil {
		t.Fatal(err)
	}
	cache, err := layer.OpenCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := cache.GetAll(t.Context(), layer.Sources(opened.Layers()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return opened, entries, ref
}

// asked is the plan as the guest will put it to the policy.
func asked(c group.ContainerPlan) engine.CreateInput {
	const dir = "/run/gcs/c/sandbox/sandboxMounts"
	in := engine.CreateInput{
		ContainerID: strings.Repeat("a", 64), SandboxDir: dir,
		Process: engine.Process{
			Args: c.Command, Env: c.Env, WorkingDir: c.WorkingDir, Umask: "0022", NoNewPrivileges: c.NoNewPrivileges,
			User: engine.ID{ID: "1000"}, Groups: []engine.ID{{ID: "1000"}}, Capabilities: capabilitiesOf(c.Capabilities),
		},
	}
	for _, m := range c.Mounts {
		in.Mounts = append(in.Mounts, policy.Mount{
			Destination: m.Destination, Options: m.Options, Type: m.Type, Source: dir + strings.TrimPrefix(m.Source, "sandbox://"),
		})
	}
	return in
}

func capabilitiesOf(c *group.Capabilities) policy.Capabilities {
	return policy.Capabilities{Ambient: c.Ambient, Bounding: c.Bounding, Effective: c.Effective, Inheritable: c.Inheritable, Permitted: c.Permitted}
}

// mounted is an engine under the policy of parts, with the layers mounted as the agent does.
func mounted(t *testing.T, parts *assemble.Parts) *engine.Engine {
	t.Helper()
	e, err := engine.New(parts.Policy.Text(), engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for i, l := range parts.Containers[0].Layers {
		target := "/run/mounts/scsi/m" + string(rune('0'+i))
		allowed(t, "mounting a layer")(e.MountDevice(t.Context(), target, l.RootHash))
		targets = append([]string{target}, targets...)
	}
	id := strings.Repeat("a", 64)
	allowed(t, "mounting the overlay")(e.MountOverlay(t.Context(), id, targets, "/run/gcs/c/"+id+"/rootfs"))
	return e
}

func allowed(t *testing.T, what string) func(engine.Decision, error) {
	return func(d engine.Decision, err error) {
		t.Helper()
		if err != nil || !d.Allowed {
			t.Errorf("%s is refused: %v, %v", what, d.Reasons, err)
		}
	}
}

// Whatever `run` asks for is what the policy that `run` generates allows, and a change of it is not.
func TestPolicyAllowsWhatIsAskedForAndNothingElse(t *testing.T) {
	t.Parallel()
	img, entries, ref := openTiny(t)
	for _, tc := range []struct {
		name     string
		flags    spec.RunFlags
		terminal bool
	}{
		{"as the image says", spec.RunFlags{}, false},
		{"with a terminal", spec.RunFlags{}, true},
		{"with flags", spec.RunFlags{Command: []string{"a", "b c", ""}, Env: []string{"X=1", "MODE=other"}, WorkingDir: "/tmp"}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			tc.flags.Image, tc.flags.CPUs = ref, 1
			g, err := spec.FromRunFlags(tc.flags)
			if err != nil {
				t.Fatal(err)
			}
			parts, err := assemble.Container(g, img, entries, assemble.Options{Terminal: tc.terminal})
			if err != nil {
				t.Fatal(err)
			}
			in := asked(parts.Containers[0])
			allowed(t, "the plan")(mounted(t, parts).CreateContainer(t.Context(), in))
			if bytes.Contains(parts.Policy.Text(), []byte(ref)) {
				t.Error("the policy says where the image lies")
			}
			for name, change := range map[string]func(*engine.CreateInput){
				"command":           func(in *engine.CreateInput) { in.Args = append(in.Args[:len(in.Args):len(in.Args)], "more") },
				"working directory": func(in *engine.CreateInput) { in.WorkingDir = "/etc" },
				"user":              func(in *engine.CreateInput) { in.User.ID = "0" },
				"privileged":        func(in *engine.CreateInput) { in.Privileged = true },
				"mount": func(in *engine.CreateInput) {
					in.Mounts = append(in.Mounts[:len(in.Mounts):len(in.Mounts)], policy.Mount{Destination: "/etc", Source: "/etc", Type: "bind"})
				},
			} {
				other := asked(parts.Containers[0])
				change(&other)
				d, err := mounted(t, parts).CreateContainer(t.Context(), other)
				if err != nil || d.Allowed {
					t.Errorf("another %s is allowed (%v)", name, err)
				}
			}
		})
	}
}
