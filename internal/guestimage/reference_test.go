// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"cofferdam.dev/internal/measure"
	"cofferdam.dev/internal/testcap"
)

// TestReferenceIsWhatIsBooted hashes the files that QEMU is given, as the simulated processor does, and compares.
func TestReferenceIsWhatIsBooted(t *testing.T) {
	t.Parallel()
	img := fakeImage(t, testBuilder(t), "a")
	for _, packed := range []bool{false, true} {
		boot, err := img.Boot(Simulated, !packed)
		if err != nil {
			t.Fatal(err)
		}
		hashes, err := measure.HashBoot(boot.Kernel, boot.Initrd, boot.Cmdline)
		if err != nil {
			t.Fatal(err)
		}
		for vcpus := 1; vcpus <= 8; vcpus++ {
			want := measure.Simulated(hashes, vcpus)
			m, err := img.Measure(MeasureOptions{TEE: Simulated, VCPUs: vcpus, Packed: packed})
			if err != nil {
				t.Fatal(err)
			}
			if m.Digest != hex.EncodeToString(want[:]) {
				t.Errorf("packed %v, %d processors: %s, want %x", packed, vcpus, m.Digest, want)
			}
		}
	}
}

func TestEachInputChangesTheReference(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	add := func(name string, change func(*Manifest), vcpus int) {
		t.Helper()
		m := fakeManifest(fakeFiles("a"))
		change(m)
		got, err := (&Image{manifest: m}).Measure(MeasureOptions{TEE: Simulated, VCPUs: vcpus})
		if err != nil {
			t.Fatal(err)
		}
		if other, dup := seen[got.Digest]; dup {
			t.Errorf("%s has the digest of %s", name, other)
		}
		seen[got.Digest] = name
	}
	other := fakeManifest(fakeFiles("b"))
	add("the image", func(*Manifest) {}, 1)
	add("two processors", func(*Manifest) {}, 2)
	add("another kernel", func(m *Manifest) { m.Files[FileVmlinux] = other.Files[FileVmlinux] }, 1)
	add("another initramfs", func(m *Manifest) { m.Files[FileInitrd] = other.Files[FileInitrd] }, 1)
	add("another command line", func(m *Manifest) { m.CommandLines[Simulated] += " debug" }, 1)
}

func TestMeasureRefuses(t *testing.T) {
	t.Parallel()
	img := fakeImage(t, testBuilder(t), "a")
	firmware := filepath.Join(t.TempDir(), "firmware")
	if err := os.WriteFile(firmware, make([]byte, 4096), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    MeasureOptions
		want error
	}{
		"nothing":               {MeasureOptions{}, nil},
		"no processors":         {MeasureOptions{TEE: Simulated}, nil},
		"too many processors":   {MeasureOptions{TEE: Simulated, VCPUs: measure.MaxVCPUs + 1}, nil},
		"unknown TEE":           {MeasureOptions{TEE: "sgx", VCPUs: 1}, nil},
		"snp without firmware":  {MeasureOptions{TEE: SNP, VCPUs: 1}, ErrNeedsFirmware},
		"tdx without firmware":  {MeasureOptions{TEE: TDX}, ErrNeedsFirmware},
		"firmware absent":       {MeasureOptions{TEE: SNP, VCPUs: 1, Firmware: firmware + "x"}, os.ErrNotExist},
		"snp without signature": {MeasureOptions{TEE: SNP, VCPUs: 1, Firmware: firmware}, nil},
		"firmware not OVMF":     {MeasureOptions{TEE: SNP, VCPUs: 1, Firmware: firmware, CPUSignature: 0x800f12}, nil},
		"firmware not TDVF":     {MeasureOptions{TEE: TDX, Firmware: firmware}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := img.Measure(c.o)
			if err == nil || (c.want != nil && !errors.Is(err, c.want)) {
				t.Errorf("got %v, want an error (%v)", err, c.want)
			}
		})
	}
}

// TestMeasureSNP compares with the measuring package over hashes of the files, with published firmware.
func TestMeasureSNP(t *testing.T) {
	t.Parallel()
	path := testcap.Vectors(t, "measure/ovmf_AmdSev_suffix.bin")
	firmware, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img := fakeImage(t, testBuilder(t), "a")
	boot, err := img.Boot(SNP, false)
	if err != nil {
		t.Fatal(err)
	}
	hashes, err := measure.HashBoot(boot.Kernel, boot.Initrd, boot.Cmdline)
	if err != nil {
		t.Fatal(err)
	}
	signature, ok := CPUSignature("EPYC-Milan")
	if !ok {
		t.Fatal("EPYC-Milan is unknown")
	}
	want, err := measure.SNP(firmware, &hashes, measure.SNPConfig{VCPUs: 2, CPUSignature: signature, GuestFeatures: 1, VMM: measure.QEMU})
	if err != nil {
		t.Fatal(err)
	}
	m, err := img.Measure(MeasureOptions{TEE: SNP, VCPUs: 2, Firmware: path, CPUSignature: signature})
	if err != nil {
		t.Fatal(err)
	}
	other, err := img.Measure(MeasureOptions{TEE: SNP, VCPUs: 2, Firmware: path, CPUSignature: signature, VMM: measure.EC2})
	if err != nil {
		t.Fatal(err)
	}
	if other.Digest == m.Digest {
		t.Error("the monitor does not change the digest")
	}
	if m.Digest != hex.EncodeToString(want[:]) {
		t.Errorf("digest %s, want %x", m.Digest, want)
	}
	var names []string
	for _, i := range m.Inputs {
		names = append(names, i.Name)
		if i.Value == "" || i.Reason == "" {
			t.Errorf("input %q is not explained", i.Name)
		}
	}
	explained := []string{"kernel", "initramfs", "command line", "firmware", "vcpus", "cpu signature", "guest features", "vmm"}
	for _, i := range m.Elsewhere {
		if i.Name == "" || i.Value == "" || i.Reason == "" {
			t.Errorf("%+v is not explained", i)
		}
	}
	if !slices.Equal(names, explained) {
		t.Errorf("inputs %q, want %q", names, explained)
	}
}

// TestCPUSignature computes the signature of a model from its family, model and stepping (AMD APM 3, CPUID Fn0000_0001).
func TestCPUSignature(t *testing.T) {
	t.Parallel()
	for name, c := range map[string][3]uint32{
		"EPYC-v4": {23, 1, 2}, "EPYC-Rome": {23, 49, 0}, "EPYC-Milan": {25, 1, 1}, "EPYC-Genoa": {25, 17, 0},
	} {
		want := (c[0]-15)<<20 | c[1]>>4<<16 | 15<<8 | c[1]&15<<4 | c[2]
		if got, ok := CPUSignature(name); !ok || got != want {
			t.Errorf("%s: %#x %v, want %#x", name, got, ok, want)
		}
	}
	if _, ok := CPUSignature("max"); ok {
		t.Error("a model without a signature has one")
	}
}
