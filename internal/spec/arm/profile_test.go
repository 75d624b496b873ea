// SPDX-License-Identifier: Apache-2.0

package arm

import (
	"strings"
	"testing"

	"cofferdam.dev/internal/spec"

	"github.com/google/go-cmp/cmp"
)

// withProfile is a template of a group that names the profile by id, and of the profile.
func withProfile(id, group, more string) string {
	return `{"$schema": "x", "parameters": {"n": {"type": "string", "defaultValue": "p"}}, "resources": [
	 {"type": "Microsoft.ContainerInstance/containerGroups", "name": "g", "properties": {"containerGroupProfile": {"id": "` + id + `", "revision": 1}` + group + `}},
	 {"type": "Microsoft.ContainerInstance/containerGroupProfiles", "name": "[parameters('n')]", "properties": {"restartPolicy": "Never", "sku": "Confidential",
	  "containers": [{"name": "a", "properties": {"image": "[concat('image', ':1')]", "command": ["run"],
	    "environmentVariables": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]}}, {"name": "b", "properties": {"image": "other"}}]}}` + more + `]}`
}

const profileID = "[resourceId('Microsoft.ContainerInstance/containerGroupProfiles', parameters('n'))]"

func TestProfile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		id, group string
		want      func(*spec.Group)
	}{
		"as it is":   {profileID, "", func(*spec.Group) {}},
		"by name":    {"P", "", func(*spec.Group) {}},
		"of a group": {"p", `, "restartPolicy": "OnFailure", "sku": null`, func(g *spec.Group) { g.Restart = spec.RestartOnFailure }},
		"of a container": {"p", `, "containers": [{"name": "a", "properties": {"image": "mine", "environmentVariables": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}}]`, func(g *spec.Group) {
			g.Containers[0].Image = "mine"
			g.Containers[0].Env = []spec.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "3"}, {Name: "C", Value: "4"}}
		}},
		"of nothing": {"p", `, "containers": [{"name": "b"}]`, func(*spec.Group) {}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			groups, _, err := read(withProfile(c.id, c.group, ""), Options{})
			if err != nil {
				t.Fatal(err)
			}
			container := func(name, image string) spec.Container {
				return spec.Container{Name: name, Image: image, AllowStdio: true, AllowPrivilegeEscalation: true}
			}
			want := spec.Group{
				Name: "g", Platform: spec.PlatformACI, Origin: "$.resources[0]", Restart: spec.RestartNever, SKU: "Confidential",
				Containers: []spec.Container{container("a", "image:1"), container("b", "other")},
			}
			want.Containers[0].Command, want.Containers[0].Env = []string{"run"}, []spec.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}}
			c.want(&want)
			if diff := cmp.Diff(want, groups[0]); diff != "" {
				t.Error(diff)
			}
			if len(groups) != 2 || !groups[1].Profile || groups[1].Containers[0].Image != "image:1" {
				t.Errorf("the profile by itself: %+v", groups[1:])
			}
		})
	}
}

func TestProfileRefusals(t *testing.T) {
	t.Parallel()
	container := func(s string) string { return `, "containers": [` + s + `]` }
	for name, c := range map[string]struct{ text, want string }{
		"elsewhere":         {withProfile("/subscriptions/s/resourceGroups/g/providers/Microsoft.ContainerInstance/containerGroupProfiles/x", "", ""), `profile "x" does not stand in this template`},
		"other kind":        {withProfile("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/p", "", ""), "is not the ID of a profile"},
		"of the deployment": {withProfile("[reference('p').id]", "", ""), "cannot be evaluated offline"},
		"new container":     {withProfile("p", container(`{"name": "new", "properties": {"image": "i"}}`), ""), `has no container "new"`},
		"other property":    {withProfile("p", container(`{"name": "a", "properties": {"securityContext": {}}}`), ""), `"securityContext" of a profile's container can not be replaced`},
		"config map":        {withProfile("p", container(`{"name": "a", "properties": {"configMap": {}}}`), ""), `"configMap" of a profile's container`},
		"unknown name":      {withProfile("p", container(`{"name": "[reference('x').y]", "properties": {}}`), ""), "has no container"},
		"two of one name": {withProfile("p", "", `, {"type": "Microsoft.ContainerInstance/containerGroupProfiles", "name": "P", "properties": {"containers": []}}`),
			`two profiles named "p"`},
		"itself": {`{"$schema": "x", "resources": [{"type": "Microsoft.ContainerInstance/containerGroupProfiles", "name": "p", "properties": {"containerGroupProfile": {"id": "p"}}}]}`,
			"names another profile"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := read(c.text, Options{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func FuzzProfile(f *testing.F) {
	f.Add([]byte(withProfile("p", `, "containers": [{"name": "a", "properties": {"image": "mine"}}]`, "")))
	f.Fuzz(func(t *testing.T, data []byte) {
		g1, _, err1 := read(string(data), Options{})
		g2, _, err2 := read(string(data), Options{})
		if diff := cmp.Diff(g1, g2); diff != "" || (err1 == nil) != (err2 == nil) {
			t.Errorf("%v %v %s", err1, err2, diff)
		}
	})
}
