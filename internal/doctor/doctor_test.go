// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"cofferdam.dev/internal/sandbox/qemu"
)

// good is a machine on which everything is as it should be.
func good() Machine {
	return Machine{
		OS: "linux", Arch: "amd64", Home: "/home/u/.local/share/cofferdam",
		Files: fstest.MapFS{
			"dev/kvm": {}, "dev/sev": {}, "dev/fuse": {},
			"proc/meminfo": {Data: []byte("MemTotal:  32000000 kB\nMemAvailable:   8388608 kB\n")},
		},
		LookPath: func(name string) (string, error) { return "/usr/bin/" + name, nil },
		Host: func() qemu.Host {
			return qemu.Host{KVM: yes("kvm_amd"), SNP: yes("sev_snp"), TDX: qemu.Fact{Why: "the host's KVM knows no TDX"}}
		},
		Emulator: func(context.Context) (*qemu.Emulator, error) {
			return &qemu.Emulator{Path: "/usr/bin/qemu", Version: qemu.Version{Major: 10, Minor: 1, Patch: 2}, StreamNetwork: true, SNP: true, TDX: true}, nil
		},
		Firmware:   func(string) bool { return true },
		Free:       func(string) (uint64, error) { return 100 * gibi, nil },
		OpenFiles:  func() (uint64, error) { return 1 << 20, nil },
		GuestImage: func() (string, error) { return "kernel 6.1", nil },
	}
}

func files(m Machine) fstest.MapFS { return m.Files.(fstest.MapFS) }

func TestExamineGoodMachine(t *testing.T) {
	t.Parallel()
	r := Examine(context.Background(), good())
	if !r.Ready || r.Accelerator != "kvm" || r.TEE != "snp" {
		t.Errorf("ready %v, accelerator %q, TEE %q; want true, kvm, snp", r.Ready, r.Accelerator, r.TEE)
	}
	for _, c := range r.Checks {
		if c.Status != Pass || c.Fix != "" || c.Code == "" || c.Title == "" || c.Detail == "" {
			t.Errorf("check of a good machine is %+v", c)
		}
	}
}

func without(program string) func(string) (string, error) {
	return func(name string) (string, error) {
		if name == program {
			return "", errors.New("not found")
		}
		return "/usr/bin/" + name, nil
	}
}

func yes(why string) qemu.Fact { return qemu.Fact{Present: true, Why: why} }

func hosts(h qemu.Host) func() qemu.Host { return func() qemu.Host { return h } }

func emulates(e qemu.Emulator, err error) func(context.Context) (*qemu.Emulator, error) {
	return func(context.Context) (*qemu.Emulator, error) { return &e, err }
}

func TestExamineFindsWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		spoil  func(*Machine)
		code   string
		status Status
		detail string // a part of it
		fix    bool
	}{
		{"foreign processor", func(m *Machine) { m.Arch = "arm64" }, "architecture", Fail, "linux/arm64", true},
		{"foreign system", func(m *Machine) { m.OS = "darwin" }, "architecture", Fail, "darwin", true},
		{"no qemu", func(m *Machine) { m.Emulator = emulates(qemu.Emulator{}, errors.New("not found")) }, "qemu", Fail, "not found", true},
		{"old qemu", func(m *Machine) {
			m.Emulator = emulates(qemu.Emulator{Version: qemu.Version{Major: 6, Minor: 2}}, nil)
		}, "qemu", Warn, "6.2.0", true},
		{"qemu before SNP", func(m *Machine) { m.Emulator = emulates(qemu.Emulator{StreamNetwork: true}, nil) }, "qemu", Pass, "SEV-SNP would need 9.1", false},
		{"qemu before TDX", func(m *Machine) {
			m.Emulator = emulates(qemu.Emulator{StreamNetwork: true, SNP: true}, nil)
		}, "qemu", Pass, "TDX would need 10.1", false},
		{"no kvm", func(m *Machine) { m.Host = hosts(qemu.Host{KVM: qemu.Fact{Why: "nothing loaded"}}) }, "accelerator", Warn, "nothing loaded", true},
		{"kvm of a guest", func(m *Machine) {
			m.Host = hosts(qemu.Host{})
			files(*m)["sys/module/kvm_pvm/refcnt"] = &fstest.MapFile{}
		}, "accelerator", Warn, "kvm_pvm", true},
		{"no TEE", func(m *Machine) { m.Host = hosts(qemu.Host{KVM: yes("kvm_intel")}) }, "tee", Warn, "no hardware protection", true},
		{"TEE without firmware", func(m *Machine) { m.Firmware = nil }, "tee", Warn, "SEV-SNP is on, but", true},
		{"no guest image", func(m *Machine) {
			m.GuestImage = func() (string, error) { return "", errors.New("no guest image was built") }
		}, "guest-image", Fail, "no guest image", true},
		{"no apt", func(m *Machine) { m.LookPath = without("apt-get") }, "packages", Warn, "apt-get", true},
		{"no runc", func(m *Machine) { m.LookPath = without("runc") }, "runc", Warn, "not on the path", true},
		{"no mke2fs", func(m *Machine) { m.LookPath = without("mke2fs") }, "mke2fs", Warn, "not on the path", true},
		{"no fuse", func(m *Machine) { delete(files(*m), "dev/fuse") }, "fuse", Warn, "no /dev/fuse", true},
		{"little memory", func(m *Machine) {
			files(*m)["proc/meminfo"] = &fstest.MapFile{Data: []byte("MemAvailable: 1024 kB\n")}
		}, "memory", Fail, "1 MiB available; the smallest group (--memory 224m) needs 480 MiB", true},
		{"memory for a small group", func(m *Machine) {
			files(*m)["proc/meminfo"] = &fstest.MapFile{Data: []byte("MemAvailable: 491520 kB\n")}
		}, "memory", Warn, "480 MiB available; a group of default size needs 768 MiB", true},
		{"odd meminfo", func(m *Machine) {
			files(*m)["proc/meminfo"] = &fstest.MapFile{Data: []byte("MemAvailable: many kB\n")}
		}, "memory", Warn, "meminfo", false},
		{"no line in meminfo", func(m *Machine) {
			files(*m)["proc/meminfo"] = &fstest.MapFile{Data: []byte("MemTotal: 1 kB\n")}
		}, "memory", Warn, "no line", false},
		{"disk full", func(m *Machine) { m.Free = func(string) (uint64, error) { return 5 * mebi, nil } }, "disk", Fail, "0.0 GiB free", true},
		{"disk small", func(m *Machine) { m.Free = func(string) (uint64, error) { return 2 * gibi, nil } }, "disk", Warn, "2.0 GiB free", true},
		{"disk unknown", func(m *Machine) {
			m.Free = func(string) (uint64, error) { return 0, errors.New("stale handle") }
		}, "disk", Warn, "stale handle", false},
		{"few files", func(m *Machine) { m.OpenFiles = func() (uint64, error) { return 256, nil } }, "open-files", Warn, "256 files", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			m := good()
			tc.spoil(&m)
			r := Examine(context.Background(), m)
			i := slices.IndexFunc(r.Checks, func(c Check) bool { return c.Code == tc.code })
			if i < 0 {
				t.Fatalf("no check %q in the report", tc.code)
			}
			c := r.Checks[i]
			if c.Status != tc.status || !strings.Contains(c.Detail, tc.detail) || (c.Fix != "") != tc.fix {
				t.Errorf("check is %+v; want status %s, a detail with %q, a fix: %v", c, tc.status, tc.detail, tc.fix)
			}
			if r.Ready != (tc.status != Fail) {
				t.Errorf("ready is %v with a check that came out as %q", r.Ready, tc.status)
			}
		})
	}
}

func TestTDXIsFound(t *testing.T) {
	t.Parallel()
	m := good()
	m.Host = hosts(qemu.Host{KVM: yes("kvm_intel"), TDX: yes("tdx")})
	r := Examine(context.Background(), m)
	if r.TEE != "tdx" {
		t.Errorf("TEE is %q, want tdx", r.TEE)
	}
}

// A TEE without KVM can not be launched, whatever else is there.
func TestNoTEEWithoutKVM(t *testing.T) {
	t.Parallel()
	m := good()
	m.Host = hosts(qemu.Host{SNP: yes("sev_snp")})
	r := Examine(context.Background(), m)
	if r.TEE != "simulated" || r.Accelerator != "tcg" {
		t.Errorf("TEE is %q on %q, want simulated on tcg", r.TEE, r.Accelerator)
	}
}

func TestHostProbesAnswer(t *testing.T) {
	t.Parallel()
	m := Host(t.TempDir()+"/not/yet/there", func() (string, error) { return "", errors.New("none") })
	free, err := m.Free(m.Home)
	if err != nil || free == 0 {
		t.Errorf("free space is %d, %v", free, err)
	}
	limit, err := m.OpenFiles()
	if err != nil || limit == 0 {
		t.Errorf("open files are %d, %v", limit, err)
	}
	r := Examine(context.Background(), m)
	if len(r.Checks) < 10 {
		t.Errorf("%d checks", len(r.Checks))
	}
}
