// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	t.Parallel()
	const revision = "0123456789abcdef0123456789abcdef01234567"
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{{Key: "vcs", Value: "git"}, {Key: "vcs.revision", Value: revision}, {Key: "vcs.modified", Value: modified}}
	}
	for name, tc := range map[string]struct {
		linked string
		build  debug.BuildInfo
		want   string
	}{
		"linked":                      {"v1.2.3", debug.BuildInfo{Main: debug.Module{Version: "v1.0.0"}}, "v1.2.3"},
		"installed as a module":       {"", debug.BuildInfo{Main: debug.Module{Version: "v1.0.0"}, Settings: vcs("false")}, "v1.0.0"},
		"built in a checkout":         {"", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: vcs("false")}, "0123456789ab"},
		"built in a changed checkout": {"", debug.BuildInfo{Settings: vcs("true")}, "0123456789ab-modified"},
		"nothing is known":            {"", debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "unknown"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := versionOf(tc.linked, &tc.build); got != tc.want {
				t.Errorf("the version is %q, want %q", got, tc.want)
			}
		})
	}
}
