// SPDX-License-Identifier: Apache-2.0

package measure

import (
	"errors"
	"fmt"
)

// SEV features that guests are launched with, as bits of SNPConfig.GuestFeatures.
const (
	// FeatureSNP is set for every SNP guest.
	FeatureSNP uint64 = 1 << 0
	// FeatureDebugSwap is on by default in some kernels.
	FeatureDebugSwap uint64 = 1 << 5
)

// SNPConfig is what changes an SNP launch digest besides firmware and kernel.
type SNPConfig struct {
	// VCPUs is the number of virtual processors.
	VCPUs int
	// CPUSignature is EAX of CPUID leaf 1 of the virtual processor's model, as QEMU puts it into EDX at reset.
	CPUSignature uint32
	// GuestFeatures is SEV_FEATURES.
	GuestFeatures uint64
	// VMM is the monitor; there is no default.
	VMM VMM
	// FirmwareDigest replaces the measuring of the firmware's own pages by their known digest.
	FirmwareDigest *[48]byte
}

// SNP returns the launch digest of an SNP guest that boots OVMF firmware. With hashes the kernel is booted directly, and
// the firmware must have a place for the hash table; without, the place that a firmware has stays zero.
func SNP(image []byte, hashes *KernelHashes, cfg SNPConfig) ([48]byte, error) {
	d, err := snpDigest(image, hashes, cfg)
	if err != nil {
		return [48]byte{}, fmt.Errorf("measuring SNP guest: %w", err)
	}
	return d, nil
}

func snpDigest(image []byte, hashes *KernelHashes, cfg SNPConfig) (digest, error) {
	if cfg.VCPUs < 1 || cfg.VCPUs > MaxVCPUs {
		return digest{}, fmt.Errorf("there are %d virtual processors, not 1 to %d", cfg.VCPUs, MaxVCPUs)
	}
	if cfg.GuestFeatures&FeatureSNP == 0 {
		return digest{}, fmt.Errorf("guest features %#x lack SNP (%#x)", cfg.GuestFeatures, FeatureSNP)
	}
	f, err := parseFirmware(image)
	if err != nil {
		return digest{}, err
	}
	d := f.pages()
	if cfg.FirmwareDigest != nil {
		d = *cfg.FirmwareDigest
	}
	if err := f.measureSections(&d, hashes, cfg.VMM); err != nil {
		return digest{}, err
	}
	return d, f.measureVCPUs(&d, cfg)
}

// pages returns the digest over the firmware's own pages, which end at 4 GiB.
func (f *firmware) pages() digest {
	var d digest
	base := fourGiB - uint64(len(f.image))
	for off := 0; off < len(f.image); off += pageSize {
		d.page(pageNormal, base+uint64(off), f.image[off:off+pageSize])
	}
	return d
}

func (f *firmware) measureSections(d *digest, hashes *KernelHashes, vmm VMM) error {
	sections, err := f.sevSections()
	if err != nil {
		return err
	}
	hashed := false
	for _, s := range sections {
		switch s.kind {
		case sectionMemory:
			kind := byte(pageZero)
			if vmm == GCE {
				kind = pageUnmeasured
			}
			d.blank(kind, s.gpa, s.size)
		case sectionSecrets:
			d.blank(pageSecrets, s.gpa, pageSize)
		case sectionCPUID:
			if vmm != EC2 {
				d.blank(pageCPUID, s.gpa, pageSize)
			}
		case sectionSVSMCAA:
			d.blank(pageZero, s.gpa, s.size)
		case sectionKernelHashes:
			if err := f.measureHashes(d, hashes, s); err != nil {
				return err
			}
			hashed = true
		default:
			return fmt.Errorf("firmware's SEV section at %#x has unknown type %d", s.gpa, s.kind)
		}
	}
	if vmm == EC2 { // which measures the CPUID page last
		for _, s := range sections {
			if s.kind == sectionCPUID {
				d.blank(pageCPUID, s.gpa, pageSize)
			}
		}
	}
	if hashes != nil && !hashed {
		return errors.New("firmware has no section for kernel hashes, so it would boot any kernel")
	}
	return nil
}

func (f *firmware) measureHashes(d *digest, hashes *KernelHashes, s section) error {
	if hashes == nil {
		d.blank(pageZero, s.gpa, s.size)
		return nil
	}
	table, err := f.word(guidSEVHashTable, "place for kernel hashes", 8)
	if err != nil {
		return err
	}
	gpa, offset := uint64(table), int(table%pageSize)
	if gpa == 0 || gpa < s.gpa || gpa-s.gpa >= pageSize || offset+hashTablePadded > pageSize || s.size != pageSize {
		return fmt.Errorf("firmware's kernel hashes at %#x are not within the one page at %#x (%#x bytes)", gpa, s.gpa,
			s.size)
	}
	d.page(pageNormal, s.gpa, hashes.page(offset))
	return nil
}

func (f *firmware) measureVCPUs(d *digest, cfg SNPConfig) error {
	first, ok := cfg.VMM.registers(resetVector, cfg.CPUSignature)
	if !ok {
		return fmt.Errorf("monitor %q is not %q, %q or %q", cfg.VMM, QEMU, EC2, GCE)
	}
	d.page(pageVMSA, vmsaAddress, first.vmsa(resetVector, cfg.GuestFeatures))
	if cfg.VCPUs == 1 {
		return nil
	}
	eip, err := f.word(guidSEVESReset, "SEV-ES reset block", 4)
	if err != nil {
		return err
	}
	other, _ := cfg.VMM.registers(eip, cfg.CPUSignature)
	page := other.vmsa(eip, cfg.GuestFeatures)
	for range cfg.VCPUs - 1 {
		d.page(pageVMSA, vmsaAddress, page)
	}
	return nil
}
