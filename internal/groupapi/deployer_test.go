// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/deploy"
	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/sandbox/qemu"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/internal/testimage"
)

// errMachine says that everything went well up to the machine.
var errMachine = errors.New("there is no machine here")

func TestDeployer(t *testing.T) {
	t.Parallel()
	d := &Deployer{
		Images: testimage.New(t), Stand: deploy.Substitutes{Map: map[string]string{"mapped": "oci:elsewhere"}},
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
