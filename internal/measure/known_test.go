// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"testing"

	"cofferdam.dev/internal/testcap"
)

// knownAnswers is the published file of launch digests.
type knownAnswers struct {
	OVMFHash map[string]string `json:"ovmf_hash"`
	MustFail []knownAnswer     `json:"must_fail"`
	Vectors  []knownAnswer     `json:"vectors"`
}

type knownAnswer struct {
	Name      string  `json:"name"`
	VCPUs     int     `json:"vcpus"`
	VCPUType  *string `json:"vcpu_type"`
	OVMF      string  `json:"ovmf"`
	Kernel    *string `json:"kernel"`
	Cmdline   *string `json:"cmdline"`
	Features  string  `json:"guest_features"`
	VMM       VMM     `json:"vmm"`
	OVMFGiven *string `json:"ovmf_hash_given"`
	Digest    string  `json:"launch_digest"`
}

// signatureEPYCv4 is family 23 model 1 stepping 2.
const signatureEPYCv4 = 0x800f12

func (k knownAnswer) config(t *testing.T) (SNPConfig, *KernelHashes) {
	t.Helper()
	features, err := strconv.ParseUint(k.Features, 0, 64)
	if err != nil {
		t.Fatalf("guest features: %v", err)
	}
	cfg := SNPConfig{VCPUs: k.VCPUs, GuestFeatures: features, VMM: k.VMM}
	if k.VCPUType != nil {
		if *k.VCPUType != "EPYC-v4" {
			t.Fatalf("vCPU type %q is not known to the test", *k.VCPUType)
		}
		cfg.CPUSignature = signatureEPYCv4
	}
	if k.OVMFGiven != nil {
		d := [48]byte(unhex(t, *k.OVMFGiven))
		cfg.FirmwareDigest = &d
	}
	if k.Kernel == nil {
		return cfg, nil
	}
	cmdline := ""
	if k.Cmdline != nil {
		cmdline = *k.Cmdline
	}
	empty := sha256.Sum256(nil)
	return cfg, &KernelHashes{Kernel: empty, Initrd: empty, Cmdline: HashCmdline(cmdline)}
}

func TestKnownAnswers(t *testing.T) {
	t.Parallel()
	answers := readKnownAnswers(t)
	if len(answers.Vectors) != 16 {
		t.Fatalf("there are %d vectors, not 16", len(answers.Vectors))
	}
	for _, k := range answers.Vectors {
		t.Run(k.Name, func(t *testing.T) {
			t.Parallel()
			cfg, hashes := k.config(t)
			image := readFirmware(t, k.OVMF)
			got, err := SNP(image, hashes, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if hex.EncodeToString(got[:]) != k.Digest {
				t.Errorf("digest is %x, not %s", got, k.Digest)
			}
			cfg.VCPUs++
			more, err := SNP(image, hashes, cfg)
			if err != nil {
				t.Fatal(err)
			}
			if more == got {
				t.Error("one more virtual processor does not change the digest")
			}
		})
	}
}

func TestKnownFirmwareDigests(t *testing.T) {
	t.Parallel()
	for name, want := range readKnownAnswers(t).OVMFHash {
		f, err := parseFirmware(readFirmware(t, name))
		if err != nil {
			t.Fatal(err)
		}
		got := f.pages()
		if hex.EncodeToString(got[:]) != want {
			t.Errorf("digest of %s is %x, not %s", name, got, want)
		}
	}
}

func TestFirmwareWithoutPlaceForHashesIsRefused(t *testing.T) {
	t.Parallel()
	for _, k := range readKnownAnswers(t).MustFail {
		hashes := &KernelHashes{}
		cfg := SNPConfig{VCPUs: 1, GuestFeatures: FeatureSNP, VMM: QEMU}
		if _, err := SNP(readFirmware(t, k.OVMF), hashes, cfg); err == nil {
			t.Errorf("%s: the digest was computed", k.Name)
		}
		if _, err := SNP(readFirmware(t, k.OVMF), nil, cfg); err != nil {
			t.Errorf("%s without a kernel: %v", k.Name, err)
		}
	}
}

func readKnownAnswers(t *testing.T) knownAnswers {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, "measure/known_answers.json"))
	if err != nil {
		t.Fatal(err)
	}
	var k knownAnswers
	if err := json.Unmarshal(b, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

func readFirmware(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, fmt.Sprintf("measure/%s", name)))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
