// SPDX-License-Identifier: Apache-2.0

package boot

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseCommandLine(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, line, tee, fails string
	}{
		{name: "as the image has it", line: "panic=-1 quiet cofferdam.tee=simulated console=ttyS0\n", tee: "simulated"},
		{name: "snp", line: "cofferdam.tee=snp", tee: "snp"},
		{name: "tdx", line: "cofferdam.tee=tdx", tee: "tdx"},
		{name: "kernel's words only", line: "quiet", fails: "missing"},
		{name: "empty", fails: "missing"},
		{name: "twice", line: "cofferdam.tee=snp cofferdam.tee=snp", fails: "twice"},
		{name: "second overrides", line: "cofferdam.tee=snp cofferdam.tee=simulated", fails: "twice"},
		{name: "unknown TEE", line: "cofferdam.tee=none", fails: `"none"`},
		{name: "empty TEE", line: "cofferdam.tee=", fails: `""`},
		{name: "upper case", line: "cofferdam.tee=SNP", fails: `"SNP"`},
		{name: "unknown parameter", line: "cofferdam.tee=snp cofferdam.debug", fails: "cofferdam.debug"},
		{name: "quoted", line: `"cofferdam.tee=snp"`, fails: "missing"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, err := ParseCommandLine(tc.line)
			if tc.fails != "" {
				if err == nil || !strings.Contains(err.Error(), tc.fails) {
					t.Errorf("error is %v, want one about %s", err, tc.fails)
				}
				return
			}
			if err != nil || p.TEE != tc.tee {
				t.Errorf("got %+v, %v; want TEE %q", p, err, tc.tee)
			}
		})
	}
}

func TestParseModules(t *testing.T) {
	t.Parallel()
	got, err := parseModules("boot /usr/lib/modules/a.ko\nboot /usr/lib/modules/b.ko\nsnp /usr/lib/modules/c.ko\n")
	want := map[string][]string{"boot": {"/usr/lib/modules/a.ko", "/usr/lib/modules/b.ko"}, "snp": {"/usr/lib/modules/c.ko"}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("groups (-want +got), %v:\n%s", err, diff)
	}
	for _, bad := range []string{
		"\n", "boot\n", " /usr/lib/modules/a.ko\n", "Boot /usr/lib/modules/a.ko\n", "boot a.ko\n", "boot /tmp/a.ko\n",
		"boot /usr/lib/modules/../../tmp/a.ko\n", "boot /usr/lib/modules/a.txt\n", "boot /usr/lib/modules/a.ko b\n",
	} {
		if got, err := parseModules(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func TestLoadModules(t *testing.T) {
	t.Parallel()
	var inserted []string
	answers := map[string]error{"/b.ko": unix.EEXIST, "/c.ko": unix.ENODEV, "/bad.ko": unix.EINVAL}
	m := &Modules{
		groups: map[string][]string{"boot": {"/a.ko", "/b.ko", "/c.ko"}, "bad": {"/bad.ko", "/never.ko"}},
		insert: func(file string) error {
			inserted = append(inserted, file)
			return answers[file]
		},
		loaded: map[string]bool{},
	}
	for range 2 {
		if err := m.Load("boot"); err != nil {
			t.Error(err)
		}
	}
	if err := m.Load("bad"); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a module that the kernel refuses: %v, want EINVAL", err)
	}
	if err := m.Load("nothing"); err == nil {
		t.Error("an unknown group was loaded")
	}
	if diff := cmp.Diff([]string{"/a.ko", "/b.ko", "/c.ko", "/bad.ko"}, inserted); diff != "" {
		t.Errorf("modules inserted (-want +got):\n%s", diff)
	}
}

func TestOpenModulesWithoutList(t *testing.T) {
	t.Parallel()
	if _, err := OpenModules(filepath.Join(t.TempDir(), "modules"), false); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error is %v", err)
	}
}

func TestSetSysctls(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	for _, s := range sysctls() {
		if s.why == "" {
			t.Errorf("%s has no reason", s.name)
		}
		path := filepath.Join(root, s.name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte("old"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if err := setSysctls(root); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(root, "kernel/kexec_load_disabled"))
	if err != nil || string(got) != "1\n" {
		t.Errorf("kexec_load_disabled is %q, %v", got, err)
	}
	if err := os.RemoveAll(filepath.Join(root, "kernel", "yama")); err != nil {
		t.Fatal(err)
	}
	if err := setSysctls(root); err == nil {
		t.Error("a parameter that is missing was passed over")
	}
}

func TestFindPort(t *testing.T) {
	t.Parallel()
	sys := t.TempDir()
	for device, name := range map[string]string{"vport1p1": "cofferdam.ctl", "vport1p2": "cofferdam.sp", "vport2p1": "twin", "vport2p2": "twin"} {
		dir := filepath.Join(sys, "class", "virtio-ports", device)
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, "name"), []byte(name+"\n"), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"cofferdam.ctl": "vport1p1", "cofferdam.sp": "vport1p2", "cofferdam": "", "": ""} {
		if got, err := findPort(sys, name); err != nil || got != want {
			t.Errorf("port %q is %q, %v; want %q", name, got, err, want)
		}
	}
	if got, err := findPort(sys, "twin"); err == nil {
		t.Errorf("of two ports with one name, %q was chosen", got)
	}
}
