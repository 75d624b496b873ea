// SPDX-License-Identifier: Apache-2.0

package container

import "testing"

// TestPropagation: only what a privileged container mounts below a shared directory is there for others.
func TestPropagation(t *testing.T) {
	t.Parallel()
	shared := []Mount{{Destination: "/data", Source: "/tmp/atlas/emptydir/x", Options: []string{"rbind", "rshared", "rw"}}}
	private := []Mount{{Destination: "/data", Source: "/tmp/atlas/emptydir/x", Options: []string{"rbind", "rprivate", "rw"}}}
	for _, c := range []struct {
		name       string
		privileged bool
		mounts     []Mount
		want       string
	}{
		{"privileged, with a shared directory", true, shared, "rshared"},
		{"privileged, with a private one", true, private, ""},
		{"privileged, with none", true, nil, ""},
		{"not privileged", false, shared, ""},
	} {
		s := &Spec{ID: "a", Rootfs: "/r", Privileged: c.privileged, Mounts: c.mounts}
		if got := config(s, &Volumes{Root: t.TempDir()}, nil, 10).Linux.RootfsPropagation; got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
