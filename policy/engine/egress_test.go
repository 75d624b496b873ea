// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/policy"
)

func TestEgress(t *testing.T) {
	t.Parallel()
	const web = `{"ports": [443], "prefix": "192.0.2.0/24", "protocol": "tcp"}`
	rule := policy.EgressRule{Ports: []uint16{443}, Prefix: "192.0.2.0/24", Protocol: "tcp"}
	generated := policy.Policy{
		APIVersion: policy.DeployedAPI, FrameworkVersion: policy.DeployedFramework, Egress: &policy.Egress{Rules: []policy.EgressRule{rule}},
	}
	for name, tc := range map[string]struct {
		text string
		want *policy.Egress
	}{
		"no limit":  {bare, nil},
		"nothing":   {bare + "allow_egress := []", &policy.Egress{}},
		"a rule":    {bare + "allow_egress := [" + web + "]", &policy.Egress{Rules: []policy.EgressRule{rule}}},
		"generated": {string(generated.Text()), generated.Egress},
		"elsewhere": {bare + "x := {\"allow_egress\": []}\n", nil},
	} {
		e, err := New([]byte(tc.text), Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(tc.want, e.Egress()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestMalformedEgress has whatever is not one plain list: a policy that seems to limit must limit.
func TestMalformedEgress(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"null":        "allow_egress := null",
		"a switch":    "allow_egress := true",
		"a name":      `allow_egress := ["example.org"]`,
		"a rule":      `allow_egress := [{"prefix": "192.0.2.0/24"}]`,
		"a set":       "allow_egress := {1}",
		"computed":    "allow_egress := [x | x := input.rules[_]]",
		"a condition": "allow_egress := [] { input.x }",
		"otherwise":   "allow_egress := [] { input.x } else := []",
		"by default":  "default allow_egress := []",
		"a function":  "allow_egress(x) := []",
		"a part":      `allow_egress.rules := []`,
		"partial":     `allow_egress[x] { x := 1 }`,
		"true alone":  "allow_egress { true }",
		"twice":       "allow_egress := []\nallow_egress := []",
		"its own":     "rules := []\nallow_egress := rules",
		"the group's": "allow_egress := data.framework.facts",
	} {
		_, err := New([]byte(bare+text+"\n"), Options{})
		if err == nil || !strings.Contains(err.Error(), "allow_egress") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
