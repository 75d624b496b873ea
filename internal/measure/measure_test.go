// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"encoding/hex"
	"os"
	"path/filepath"
	"testing"
)

// TestSimulatedGolden pins the documented scheme: relying parties pin its digests.
func TestSimulatedGolden(t *testing.T) {
	t.Parallel()
	h := KernelHashes{
		Kernel:  sha256.Sum256([]byte("kernel")),
		Initrd:  sha256.Sum256([]byte("initrd")),
		Cmdline: HashCmdline("console=ttyS0"),
	}
	for _, c := range []struct {
		name  string
		vcpus int
		want  string
	}{
		{"one processor", 1, "2b87f9b02742e65cd6d21999f2250c8d231f7a469cf619efc4e6e86e061734b5d331cd53ef6b237cdbd8888ff2aa165c"},
		{"two processors", 2, "f05814ba8a107e04a0f05f9670eb2645c45a90c2c683a958310190001da1f9cc61d58abd505ba0d6e1c21d1aefe677c1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := Simulated(h, c.vcpus)
			if hex.EncodeToString(got[:]) != c.want {
				t.Errorf("digest is %x, not %s", got, c.want)
			}
		})
	}
}

// TestSimulatedFollowsItsDescription computes the digest a second time, straight from the package's documentation.
func TestSimulatedFollowsItsDescription(t *testing.T) {
	t.Parallel()
	h := KernelHashes{Kernel: [32]byte{1}, Initrd: [32]byte{2}, Cmdline: [32]byte{3}}
	d := make([]byte, 48)
	enter := func(page []byte, kind byte, address uint64) {
		inner := sha512.Sum384(page)
		b := append(append([]byte{}, d...), inner[:]...)
		b = append(b, 0x70, 0x00, kind, 0, 0, 0, 0, 0)
		b = binary.LittleEndian.AppendUint64(b, address)
		sum := sha512.Sum384(b)
		d = sum[:]
	}
	table := unhex(t, "06d63894224fc94cb479a793d411fd21"+"a800"+
		"d82dd09720bd944caa78e7714d36ab2a"+"3200"+"03"+zeros(31)+
		"31f7ba442f3ad74b9af141e29169781d"+"3200"+"02"+zeros(31)+
		"3794e74dd2ab7f42b835d5b172d2045b"+"3200"+"01"+zeros(31))
	enter(append(table, make([]byte, 4096-len(table))...), 1, 0)
	for i := range byte(3) {
		page := append([]byte("cofferdam simulated vcpu v1\x00"), i, 0, 0, 0)
		enter(append(page, make([]byte, 4096-len(page))...), 2, 0xFFFFFFFFF000)
	}
	if got := Simulated(h, 3); !bytes.Equal(got[:], d) {
		t.Errorf("digest is %x, description gives %x", got, d)
	}
}

func TestEveryInputChangesTheSimulatedDigest(t *testing.T) {
	t.Parallel()
	seen := map[[48]byte]string{}
	for name, got := range map[string][48]byte{
		"base":    Simulated(KernelHashes{}, 1),
		"kernel":  Simulated(KernelHashes{Kernel: [32]byte{1}}, 1),
		"initrd":  Simulated(KernelHashes{Initrd: [32]byte{1}}, 1),
		"cmdline": Simulated(KernelHashes{Cmdline: [32]byte{1}}, 1),
		"vcpus":   Simulated(KernelHashes{}, 2),
	} {
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s have the same digest", name, other)
		}
		seen[got] = name
	}
}

func TestHashBoot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	kernel, initrd := filepath.Join(dir, "kernel"), filepath.Join(dir, "initrd")
	for path, text := range map[string]string{kernel: "K", initrd: "I"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := HashBoot(kernel, initrd, "a b")
	if err != nil {
		t.Fatal(err)
	}
	want := KernelHashes{sha256.Sum256([]byte("K")), sha256.Sum256([]byte("I")), sha256.Sum256([]byte("a b\x00"))}
	if got != want {
		t.Errorf("hashes are %x, not %x", got, want)
	}
	if got, err = HashBoot(kernel, "", ""); err != nil || got.Initrd != sha256.Sum256(nil) {
		t.Errorf("without initial ramdisk: %x, %v", got, err)
	}
	for name, try := range map[string][3]string{
		"missing kernel":       {kernel + "x", initrd, ""},
		"missing initrd":       {kernel, initrd + "x", ""},
		"zero in command line": {kernel, initrd, "a\x00b"},
		"directory":            {dir, initrd, ""},
	} {
		if _, err := HashBoot(try[0], try[1], try[2]); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSNPRefusesWrongConfigurations(t *testing.T) {
	t.Parallel()
	good := SNPConfig{VCPUs: 1, GuestFeatures: FeatureSNP, VMM: QEMU}
	image := buildOVMF(t, ovmfOptions{})
	if _, err := SNP(image, &KernelHashes{}, good); err != nil {
		t.Fatalf("the synthetic firmware is refused: %v", err)
	}
	for name, change := range map[string]func(*SNPConfig){
		"no processor":       func(c *SNPConfig) { c.VCPUs = 0 },
		"too many":           func(c *SNPConfig) { c.VCPUs = MaxVCPUs + 1 },
		"no monitor":         func(c *SNPConfig) { c.VMM = "" },
		"no SNP feature":     func(c *SNPConfig) { c.GuestFeatures = FeatureDebugSwap },
		"zero configuration": func(c *SNPConfig) { *c = SNPConfig{} },
	} {
		cfg := good
		change(&cfg)
		if _, err := SNP(image, &KernelHashes{}, cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func zeros(n int) string { return hex.EncodeToString(make([]byte, n)) }
