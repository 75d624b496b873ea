// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/spec"
	"cofferdam.dev/policy"
)

func TestMismatch(t *testing.T) {
	t.Parallel()
	img, entries, ref := openTiny(t)
	generate := func(f spec.RunFlags) *policy.Policy {
		f.Image = ref
		g, err := spec.FromRunFlags(f)
		if err != nil {
			t.Fatal(err)
		}
		parts, err := assemble.Container(g, img, entries, assemble.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return parts.Policy
	}
	agreed := generate(spec.RunFlags{Command: []string{"a"}})
	someone := generate(spec.RunFlags{Command: []string{"a"}, User: "7"})
	other := generate(spec.RunFlags{Command: []string{"far", "off"}, WorkingDir: "/far"})
	several := *agreed
	several.Containers = slices.Concat(other.Containers, agreed.Containers)
	relayered := *generate(spec.RunFlags{Command: []string{"a"}})
	relayered.Containers[0].Layers = []string{strings.Repeat("ab", 32)}
	for name, tc := range map[string]struct {
		asked *policy.Policy
		text  []byte
		want  []string
	}{
		"the same":          {agreed, agreed.Text(), nil},
		"another command":   {generate(spec.RunFlags{Command: []string{"b c"}}), agreed.Text(), []string{`command: the policy allows ["/app/run","a"], this run asks for ["/app/run","b c"]`}},
		"another directory": {generate(spec.RunFlags{Command: []string{"a"}, WorkingDir: "/x"}), agreed.Text(), []string{`working_dir: the policy allows "/app", this run asks for "/x"`}},
		"another user": {someone, agreed.Text(), []string{
			`user.user_idname: the policy allows {"pattern":"1000","strategy":"id"}, this run asks for {"id":"7","name":""}`,
		}},
		"the nearest":  {generate(spec.RunFlags{Command: []string{"b"}}), several.Text(), []string{`command: the policy allows ["/app/run","a"], this run asks for ["/app/run","b"]`}},
		"another form": {agreed, []byte("package policy\n"), nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tc.want, mismatch(t.Context(), tc.asked, tc.text)); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}
		})
	}
	t.Run("another image", func(t *testing.T) {
		t.Parallel()
		got := mismatch(t.Context(), agreed, relayered.Text())
		if len(got) != 2 || !strings.HasPrefix(got[0], "layers: the policy allows one of 1 root hashes: abab") || !strings.Contains(got[1], "the image is another one") {
			t.Errorf("mismatch is %q", got)
		}
	})
}
