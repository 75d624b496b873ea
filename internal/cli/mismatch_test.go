// SPDX-License-Identifier: Apache-2.0

package cli

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
	other := generate(spec.RunFlags{Command: []string{"far", "off"}, WorkingDir: "/far"})
	several := *agreed
	several.Containers = slices.Concat(other.Containers, agreed.Containers)
	relayered := *generate(spec.RunFlags{Command: []string{"a"}})
	relayered.Containers[0].Layers = []string{strings.Repeat("ab", 32)}
	empty := *agreed
	empty.Containers = nil
	for name, tc := range map[string]struct {
		asked *policy.Policy
		text  []byte
		want  []string
	}{
		"the same":          {agreed, agreed.Text(), nil},
		"another command":   {generate(spec.RunFlags{Command: []string{"b c"}}), agreed.Text(), []string{`command: the policy allows /app/run a, this run asks for /app/run "b c"`}},
		"another directory": {generate(spec.RunFlags{Command: []string{"a"}, WorkingDir: "/x"}), agreed.Text(), []string{"working directory: the policy allows /app, this run asks for /x"}},
		"streams":           {agreed, generate(spec.RunFlags{Command: []string{"a"}, NoStdio: true}).Text(), []string{"standard streams: the policy allows none, this run asks for them (--no-stdio goes without)"}},
		"the nearest":       {generate(spec.RunFlags{Command: []string{"b"}}), several.Text(), []string{"command: the policy allows /app/run a, this run asks for /app/run b"}},
		"another form":      {agreed, []byte("package policy\n"), nil},
		"no container":      {agreed, empty.Text(), []string{"the policy lists no container"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if d := cmp.Diff(tc.want, mismatch(tc.asked, tc.text)); d != "" {
				t.Errorf("mismatch (-want +got):\n%s", d)
			}
		})
	}
	t.Run("another image", func(t *testing.T) {
		t.Parallel()
		got := mismatch(agreed, relayered.Text())
		if len(got) != 1 || !strings.HasPrefix(got[0], "layers: the policy allows [abababababab], this run asks for [") {
			t.Errorf("mismatch is %q", got)
		}
	})
}
