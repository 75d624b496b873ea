// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/spec"
)

// sample is one image for all references but "missing".
type sample struct{ dir string }

func newSample(t *testing.T) *sample {
	t.Helper()
	img, err := mutate.Canonical(empty.Image)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Config.Cmd = "linux", "amd64", []string{"/bin/serve"}
	img, err = mutate.ConfigFile(img, c)
	s := &sample{filepath.Join(t.TempDir(), "layout")}
	if err == nil {
		var l layout.Path
		l, err = layout.Write(s.dir, empty.Index)
		err = errors.Join(err, l.AppendImage(img))
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var errNoImage = errors.New("no such image")

func (s *sample) Open(ctx context.Context, ref string, _ []spec.RegistryCredential) (assemble.Image, error) {
	if ref == "missing" {
		return assemble.Image{}, errNoImage
	}
	img, err := image.Open(ctx, "oci:"+s.dir, image.Options{})
	e := layer.Entry{}
	e.RootHash = [32]byte{1}
	return assemble.Image{Image: img, Entries: []layer.Entry{e}}, err
}

// errMachine says that everything went well up to the machine.
var errMachine = errors.New("there is no machine here")

func TestDeployer(t *testing.T) {
	t.Parallel()
	d := &Deployer{
		Images: newSample(t), Stand: deploy.Substitutes{Map: map[string]string{"mapped": "oci:elsewhere"}},
		Machine: func(context.Context) (deploy.Machine, qemu.Choice, *qemu.Emulator, error) {
			return deploy.Machine{}, qemu.Choice{}, nil, errMachine
		},
	}
	one := func(img string) spec.Group {
		return spec.Group{Name: "g", Platform: spec.PlatformACI, Containers: []spec.Container{{Name: "c", Image: img, Command: []string{"/bin/serve"}, AllowStdio: true}}}
	}
	policy := one("img")
	policy.ExistingPolicy = "cGFja2FnZSBwb2xpY3kKCmFwaV92ZXJzaW9uIDo9ICIwLjEwLjAiCg==" // package policy, an API version, no rules
	broken := one("img")
	broken.ExistingPolicy = "***"
	for name, tc := range map[string]struct {
		group  spec.Group
		says   string
		events []string
		policy bool
	}{
		"an image":           {one("img"), errMachine.Error(), []string{"c Pulling", "c Pulled"}, false},
		"a mapped image":     {one("mapped"), errMachine.Error(), []string{"c Pulling", "c Pulled"}, false},
		"a missing image":    {one("missing"), "no such image", []string{"c Pulling", "c Failed"}, false},
		"a file":             {one("oci-archive:/etc/passwd"), "is a file of this machine", nil, false},
		"another file":       {one("docker-archive:x.tar"), "is a file of this machine", nil, false},
		"a policy of naught": {policy, "does not admit", []string{"c Pulling", "c Pulled"}, true},
		"a broken policy":    {broken, "base64", []string{"c Pulling", "c Pulled"}, false},
		"a profile":          {spec.Group{Name: "g", Profile: true, Containers: one("img").Containers}, "profile", nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var events []string
			_, _, _, err := d.Plan(t.Context(), tc.group, func(container, name string, _ event.Type, message string) {
				events = append(events, container+" "+name)
				if message == "" {
					t.Error("an event says nothing")
				}
			})
			if err == nil || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("error is %v", err)
			}
			if diff := cmp.Diff(tc.events, events); diff != "" {
				t.Error(diff)
			}
			var r *Refusal
			if errors.As(err, &r) && r.Policy != tc.policy || tc.policy && (r == nil || len(r.Details) == 0) {
				t.Errorf("refusal %+v", r)
			}
		})
	}
}
