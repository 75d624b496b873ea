// SPDX-License-Identifier: Apache-2.0

package container

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"cofferdam.dev/policy"
)

var update = flag.Bool("update", false, "write the golden files")

// TestConfig compares the runtime's configuration with golden files, since every word of it matters.
func TestConfig(t *testing.T) {
	t.Parallel()
	caps := []string{"CAP_CHOWN", "CAP_KILL"}
	plain := Spec{
		ID: strings.Repeat("a", 64), Rootfs: "/run/gcs/c/ID/rootfs", Hostname: "web",
		Process: Process{
			Args: []string{"/bin/true"}, Env: []string{"PATH=/bin"}, WorkingDir: "/srv", NoNewPrivileges: true,
			User:         User{Name: "app", UID: 1000, GID: 1000, Extra: []uint32{10}, Groups: []string{"wheel"}},
			Capabilities: policy.Capabilities{Bounding: caps, Effective: caps, Permitted: caps},
		},
		Mounts:      []Mount{{Destination: "/data", Source: "/tmp/atlas/emptydir/data", Options: []string{"rbind", "rshared", "rw"}}},
		Evidence:    "/run/evidence/ID",
		MemoryBytes: 64 << 20, CPUMillis: 1500,
		Seccomp: &specs.LinuxSeccomp{DefaultAction: specs.ActErrno},
	}
	privileged := Spec{ID: strings.Repeat("b", 64), Rootfs: "/r", Privileged: true, ReadOnlyRoot: true, Process: Process{
		Args: []string{"sh"}, WorkingDir: "/", Stdio: Stdio{Terminal: true},
	}}
	for name, s := range map[string]*Spec{"plain": &plain, "privileged": &privileged} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			extra := []Mount{{Destination: "/etc/hosts", Source: "/etc/ID/hosts", Options: []string{"rbind", "rprivate", "rw"}}}
			got, err := json.MarshalIndent(config(s, &Volumes{Root: "/volumes"}, extra, 1000), "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".json")
			if *update {
				err = os.WriteFile(golden, append(got, '\n'), 0o600)
				if err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(got)+"\n"); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
		})
	}
}

// TestHostsFilesAreConfined has the host's content bring no devices and no set-user-ID programs, whatever was asked for.
func TestHostsFilesAreConfined(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"/tmp/atlas/azureFileVolume/x": "rbind,rw,suid,dev,nosuid,nodev",
		"/tmp/atlas/secretsVolume/x":   "rbind,rw,suid,dev,nosuid,nodev",
		"/tmp/atlas/gitRepoVolume/x":   "rbind,rw,suid,dev,nosuid,nodev",
		"/tmp/atlas/emptydir/x":        "rbind,rw,suid,dev", // as the policy has it
	} {
		asked := []string{"rbind", "rw", "suid", "dev"}
		got := strings.Join(confined(Mount{Source: source, Options: asked}), ",")
		if got != want || len(asked) != 4 {
			t.Errorf("%s: options are %s, want %s", source, got, want)
		}
	}
	if got := confined(Mount{Source: "/tmp/atlas/emptydir/x", Options: []string{"rw"}}); strings.Join(got, ",") != "rw,nodev" {
		t.Errorf("a volume of the group's own has options %v", got)
	}
}
