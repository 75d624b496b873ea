// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/internal/testcap"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestParseVersion(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Version{
		"QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)\nCopyright": {7, 2, 22},
		"QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2~bpo12+1)\n":             {10, 0, 2},
		"QEMU emulator version 11.1\n":                                              {11, 1, 0},
		"warning: x\nQEMU emulator version 9.1.0-rc2\n":                             {9, 1, 0},
	} {
		got, err := ParseVersion(text)
		if err != nil || got != want {
			t.Errorf("version of %q is %s, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "QEMU emulator version x", "qemu 7.2.0", "QEMU emulator version 99999999999999.0.0"} {
		_, err := ParseVersion(text)
		if err == nil {
			t.Errorf("%q has a version", text)
		}
	}
	order := []Version{{7, 2, 0}, {7, 2, 22}, {8, 0, 0}, {10, 0, 2}, {10, 1, 0}}
	if !slices.IsSortedFunc(order, func(a, b Version) int {
		if a.Less(b) {
			return -1
		}
		return 1
	}) {
		t.Error("versions do not compare by number")
	}
}

// tree makes a file system of the named files; a name with a slash at its end is a directory.
func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		path := filepath.Join(root, name)
		dir := filepath.Dir(path)
		if strings.HasSuffix(name, "/") {
			dir = path
		}
		err := os.MkdirAll(dir, 0o700)
		if err == nil && dir != path {
			err = os.WriteFile(path, []byte(text), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestDetectHost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		files         map[string]string
		kvm, snp, tdx bool
		why           string
	}{
		"nothing":       {nil, false, false, false, "neither kvm_intel nor kvm_amd"},
		"other kvm":     {map[string]string{"dev/kvm": "", "sys/module/kvm/": "", "sys/module/kvm_pvm/": ""}, false, false, false, "neither kvm_intel nor kvm_amd"},
		"no device":     {map[string]string{"sys/module/kvm_intel/": ""}, false, false, false, "no such file"},
		"plain intel":   {map[string]string{"dev/kvm": "", "sys/module/kvm_intel/": ""}, true, false, false, "kvm_intel"},
		"snp":           {map[string]string{"dev/kvm": "", "dev/sev": "", "sys/module/kvm_amd/parameters/sev_snp": "Y\n"}, true, true, false, "kvm_amd"},
		"snp off":       {map[string]string{"dev/kvm": "", "dev/sev": "", "sys/module/kvm_amd/parameters/sev_snp": "N\n"}, true, false, false, "kvm_amd"},
		"snp no device": {map[string]string{"dev/kvm": "", "sys/module/kvm_amd/parameters/sev_snp": "1\n"}, true, false, false, "kvm_amd"},
		"tdx":           {map[string]string{"dev/kvm": "", "sys/module/kvm_intel/parameters/tdx": "1"}, true, false, true, "kvm_intel"},
	} {
		h := DetectHost(tree(t, c.files))
		if h.KVM.Present != c.kvm || h.SNP.Present != c.snp || h.TDX.Present != c.tdx || !strings.Contains(h.KVM.Why, c.why) {
			t.Errorf("%s: %+v", name, h)
		}
		if h.SNP.Why == "" || h.TDX.Why == "" {
			t.Errorf("%s: a fact without a reason: %+v", name, h)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	yes := Fact{Present: true, Why: "it is"}
	no := Fact{Why: "it is not"}
	full := &Emulator{Version: Version{10, 1, 0}, SNP: true, TDX: true}
	old := &Emulator{Version: Version{7, 2, 22}}
	all := func(string) bool { return true }
	none := func(string) bool { return false }
	for name, c := range map[string]struct {
		accelerator, tee string
		host             Host
		emulator         *Emulator
		firmware         func(string) bool
		want             Choice
		refused          string
	}{
		"plain machine": {Auto, Auto, Host{no, no, no}, full, all, Choice{TCG, Simulated, []string{
			"no snp: it needs kvm: it is not", "no tdx: it needs kvm: it is not", "no kvm: it is not",
		}}, ""},
		"snp":          {Auto, Auto, Host{yes, yes, no}, full, all, Choice{KVM, SNP, nil}, ""},
		"tdx":          {Auto, Auto, Host{yes, no, yes}, full, all, Choice{KVM, TDX, []string{"no snp: it is not"}}, ""},
		"old emulator": {Auto, Auto, Host{yes, yes, no}, old, all, Choice{KVM, Simulated, []string{"no snp: QEMU 7.2.22 was built without it", "no tdx: it is not"}}, ""},
		"no firmware":  {Auto, Auto, Host{yes, yes, no}, full, none, Choice{KVM, Simulated, []string{"no snp: the guest image has no firmware for it", "no tdx: it is not"}}, ""},
		"by hand":      {TCG, Simulated, Host{yes, yes, yes}, full, all, Choice{TCG, Simulated, nil}, ""},
		"tcg wins":     {TCG, Auto, Host{yes, yes, yes}, full, all, Choice{TCG, Simulated, []string{"no snp: it needs kvm, and tcg was asked for", "no tdx: it needs kvm, and tcg was asked for"}}, ""},
		"no kvm":       {KVM, Simulated, Host{no, no, no}, full, all, Choice{}, "kvm is not available: it is not"},
		"no snp":       {Auto, SNP, Host{yes, no, no}, full, all, Choice{}, "snp is not available: it is not"},
		"snp on tcg":   {TCG, SNP, Host{yes, yes, no}, full, all, Choice{}, "needs the accelerator kvm"},
		"odd tee":      {Auto, "sgx", Host{}, full, all, Choice{}, `TEE is "sgx"`},
		"no tee":       {Auto, "", Host{}, full, all, Choice{}, `TEE is ""`},
		"odd accel":    {"xen", Simulated, Host{}, full, all, Choice{}, `accelerator is "xen"`},
	} {
		got, err := Choose(c.accelerator, c.tee, c.host, c.emulator, c.firmware)
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: error is %v, want %q", name, err, c.refused)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: choice differs (-want +got):\n%s", name, diff)
		}
	}
}

// TestRealEmulator checks that the real emulator knows every device and option of a command line that it can be asked
// to run: it must get as far as the missing kernel.
func TestRealEmulator(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.QEMU)
	e, err := Probe(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	c := machine(TCG, Simulated)
	c.Version, c.Kernel = e.Version, filepath.Join(t.TempDir(), "no-kernel")
	image := filepath.Join(t.TempDir(), "disk,1.img")
	err = os.WriteFile(image, make([]byte, 1<<20), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	for i := range c.Disks {
		c.Disks[i].Path = image
		c.Disks[i].ReadOnly = true
	}
	if !e.StreamNetwork {
		c.FDs.Network = 0
	}
	args, err := c.Args()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(e.Path, args...)
	for range 5 {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		ours, theirs := os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
		t.Cleanup(func() { _, _ = ours.Close(), theirs.Close() })
		cmd.ExtraFiles = append(cmd.ExtraFiles, theirs)
	}
	out, err := cmd.CombinedOutput()
	if err == nil || !strings.Contains(string(out), "no-kernel") {
		t.Errorf("QEMU says %q, %v; want it to miss the kernel", out, err)
	}
}

func TestProbeErrors(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/nonexistent/qemu": "qemu-system-x86",
		"/bin/false":        "running /bin/false -version",
		"/bin/echo":         "no QEMU version",
	} {
		_, err := Probe(t.Context(), path)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %q", path, err, want)
		}
	}
}

func FuzzParseVersion(f *testing.F) {
	f.Add("QEMU emulator version 7.2.22 (Debian)")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseVersion(s)
		if err == nil && (v.Major < 0 || v.Major > 9999) {
			t.Errorf("version %s", v)
		}
	})
}
