// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strconv"

	"cofferdam.dev/internal/measure"
)

// ErrNeedsFirmware is wrapped when a digest depends on firmware that was not named: an image has none.
var ErrNeedsFirmware = errors.New("the launch digest of this TEE depends on firmware, which an image does not have")

// MeasureOptions says which launch is measured.
type MeasureOptions struct {
	TEE   string
	VCPUs int
	// Packed measures the boot of vmlinuz under the simulated TEE, which boots vmlinux by default.
	Packed bool
	// Firmware is the path of the OVMF image; snp and tdx need it.
	Firmware string
	// CPUSignature is EAX of CPUID leaf 1 of the virtual processors; snp needs it (see CPUSignature).
	CPUSignature uint32
	// GuestFeatures is SEV_FEATURES of the virtual processors; zero means what QEMU sets by default.
	GuestFeatures uint64
	// VMM is the monitor that snp guests run under; empty means QEMU.
	VMM measure.VMM
}

// Measurement is a launch digest and everything that it depends on.
type Measurement struct {
	TEE    string          `json:"tee"`
	Kind   string          `json:"kind"` // the field of the TEE's evidence that will hold it
	Digest string          `json:"digest"`
	Inputs []MeasuredInput `json:"inputs"`
	// Elsewhere is what a launch fixes too, but in other fields of the evidence: the digest does not change with it.
	Elsewhere []MeasuredInput `json:"elsewhere"`
}

// MeasuredInput is one thing that changes the digest when it changes.
type MeasuredInput struct {
	Name   string `json:"name"`
	Value  string `json:"value"`
	Reason string `json:"reason"`
}

// Measure returns a launch digest with what it depends on.
func (i *Image) Measure(o MeasureOptions) (*Measurement, error) {
	d, m, err := i.measure(o)
	if err != nil {
		return nil, err
	}
	m.Digest = hex.EncodeToString(d[:])
	return m, nil
}

func (i *Image) measure(o MeasureOptions) ([48]byte, *Measurement, error) {
	if o.TEE != TDX && (o.VCPUs < 1 || o.VCPUs > measure.MaxVCPUs) {
		return [48]byte{}, nil, fmt.Errorf("measuring guest image: %d processors, want 1 to %d", o.VCPUs, measure.MaxVCPUs)
	}
	switch o.TEE {
	case Simulated:
		return i.measureSimulated(o)
	case SNP, TDX:
		if o.Firmware == "" {
			return [48]byte{}, nil, fmt.Errorf("measuring guest image for %s: %w", o.TEE, ErrNeedsFirmware)
		}
		firmware, err := os.ReadFile(o.Firmware)
		if err != nil {
			return [48]byte{}, nil, fmt.Errorf("measuring guest image: reading firmware: %w", err)
		}
		sum := sha256.Sum256(firmware)
		if o.TEE == SNP {
			return i.measureSNP(o, firmware, hex.EncodeToString(sum[:]))
		}
		return measureTDX(firmware, hex.EncodeToString(sum[:]))
	}
	return [48]byte{}, nil, fmt.Errorf("measuring guest image: TEE %q is unknown", o.TEE)
}

func (i *Image) measureSimulated(o MeasureOptions) ([48]byte, *Measurement, error) {
	hashes, inputs, err := i.hashes(o.TEE, !o.Packed)
	if err != nil {
		return [48]byte{}, nil, err
	}
	inputs = append(inputs, MeasuredInput{"vcpus", strconv.Itoa(o.VCPUs), "one page is measured for each processor"})
	return measure.Simulated(hashes, o.VCPUs), &Measurement{
		TEE: o.TEE, Kind: "MEASUREMENT (simulated)", Inputs: inputs, Elsewhere: snpElsewhere(),
	}, nil
}

func (i *Image) measureSNP(o MeasureOptions, firmware []byte, sum string) ([48]byte, *Measurement, error) {
	hashes, inputs, err := i.hashes(o.TEE, false)
	if err != nil {
		return [48]byte{}, nil, err
	}
	if o.CPUSignature == 0 {
		return [48]byte{}, nil, errors.New("measuring guest image for snp: the processors' signature must be named")
	}
	if o.GuestFeatures == 0 {
		o.GuestFeatures = measure.FeatureSNP
	}
	if o.VMM == "" {
		o.VMM = measure.QEMU
	}
	d, err := measure.SNP(firmware, &hashes, measure.SNPConfig{
		VCPUs: o.VCPUs, CPUSignature: o.CPUSignature, GuestFeatures: o.GuestFeatures, VMM: o.VMM,
	})
	if err != nil {
		return [48]byte{}, nil, fmt.Errorf("measuring guest image for snp: %w", err)
	}
	inputs = append(inputs,
		MeasuredInput{"firmware", sum, "its pages are measured first, and it checks the kernel hashes"},
		MeasuredInput{"vcpus", strconv.Itoa(o.VCPUs), "one page of initial registers is measured for each processor"},
		MeasuredInput{"cpu signature", fmt.Sprintf("%#x", o.CPUSignature), "the processor's model is in its initial registers"},
		MeasuredInput{"guest features", fmt.Sprintf("%#x", o.GuestFeatures), "they are in the same page"},
		MeasuredInput{"vmm", string(o.VMM), "monitors differ in the initial registers that they set"})
	return d, &Measurement{TEE: o.TEE, Kind: "MEASUREMENT", Inputs: inputs, Elsewhere: snpElsewhere()}, nil
}

// snpElsewhere is what reports of SEV-SNP, and of the simulated processor, say apart from the digest.
func snpElsewhere() []MeasuredInput {
	return []MeasuredInput{
		{"execution policy", "HOST_DATA", "the SHA-256 of its text"},
		{"guest policy", "POLICY", "debugging, migration, multithreading and the like"},
		{"ID block", "ID_KEY_DIGEST, AUTHOR_KEY_DIGEST, FAMILY_ID, IMAGE_ID, GUEST_SVN", "who signed it and what it says"},
	}
}

func measureTDX(firmware []byte, sum string) ([48]byte, *Measurement, error) {
	d, err := measure.TDXMRTD(firmware)
	if err != nil {
		return [48]byte{}, nil, fmt.Errorf("measuring guest image for tdx: %w", err)
	}
	return d, &Measurement{TEE: TDX, Kind: "MRTD", Inputs: []MeasuredInput{
		{"firmware", sum, "MRTD covers the firmware alone; it measures kernel and command line into RTMR1 and RTMR2"},
	}, Elsewhere: []MeasuredInput{
		{"kernel, initramfs, command line", "RTMR1, RTMR2", "the firmware measures them; their values are not computed here"},
		{"execution policy", "MRCONFIGID", "the SHA-256 of its text and 16 zero bytes"},
		{"debugging and the like", "ATTRIBUTES, XFAM", "what the host may do to the TD, and what it may use"},
	}}, nil
}

// hashes returns what the kernel hash table of a launch will hold, from the manifest.
func (i *Image) hashes(tee string, elf bool) (measure.KernelHashes, []MeasuredInput, error) {
	kernel, initrd := i.manifest.Files[kernelFile(elf)].SHA256, i.manifest.Files[FileInitrd].SHA256
	k, err := digest(kernel)
	if err != nil {
		return measure.KernelHashes{}, nil, fmt.Errorf("measuring guest image: kernel: %w", err)
	}
	r, err := digest(initrd)
	if err != nil {
		return measure.KernelHashes{}, nil, fmt.Errorf("measuring guest image: initramfs: %w", err)
	}
	cmdline := i.manifest.CommandLines[tee]
	return measure.KernelHashes{Kernel: k, Initrd: r, Cmdline: measure.HashCmdline(cmdline)}, []MeasuredInput{
		{"kernel", kernel, "the file " + kernelFile(elf) + ", from package " + i.manifest.Kernel.Package + " " + i.manifest.Kernel.Version},
		{"initramfs", initrd, "agent, OCI runtime, modules and configuration"},
		{"command line", cmdline, "with a final zero byte"},
	}, nil
}

// CPUSignature returns EAX of CPUID leaf 1 for QEMU's models of AMD processors that can run SNP guests.
func CPUSignature(model string) (uint32, bool) { return measure.CPUSignature(model) }
