// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/measure"
)

// Launch is what a guest is launched from and with.
type Launch struct {
	// KernelPath and InitrdPath are the very files that the machine monitor boots.
	KernelPath, InitrdPath string
	// Cmdline is the kernel's command line.
	Cmdline string
	// VCPUs is the number of virtual processors.
	VCPUs int
	// HostData is put into every report of the guest.
	HostData [32]byte
	// Policy is the guest policy. Zero is refused.
	Policy snp.GuestPolicy
}

// Guest is a launched guest. It holds what the firmware keeps of it, all of it fixed.
type Guest struct {
	p    *Processor
	base snp.Report
	// vmrk is the root of keys that die with the guest.
	vmrk chipSecret
}

// Launch measures the files and fixes everything that a guest's reports say. It refuses a policy that this simulated
// machine does not meet, as firmware does.
func (p *Processor) Launch(l Launch) (*Guest, error) {
	if err := checkPolicy(l.Policy); err != nil {
		return nil, fmt.Errorf("launching simulated guest: policy %s: %w", l.Policy, err)
	}
	if l.VCPUs < 1 || l.VCPUs > measure.MaxVCPUs {
		return nil, fmt.Errorf("launching simulated guest: there are %d virtual processors, not 1 to %d", l.VCPUs,
			measure.MaxVCPUs)
	}
	hashes, err := measure.HashBoot(l.KernelPath, l.InitrdPath, l.Cmdline)
	if err != nil {
		return nil, fmt.Errorf("launching simulated guest: %w", err)
	}
	id, err := p.chip.id()
	if err != nil {
		return nil, fmt.Errorf("launching simulated guest: %w", err)
	}
	version := snp.FirmwareVersion{Build: firmwareBuild, Minor: abiMinor, Major: abiMajor}
	g := &Guest{p: p, base: snp.Report{
		Version:            reportVersion,
		Policy:             l.Policy,
		SignatureAlgorithm: snp.SignatureECDSAP384SHA384,
		CurrentTCB:         simulatedTCB,
		PlatformInfo:       platformInfo,
		Measurement:        measure.Simulated(hashes, l.VCPUs),
		HostData:           l.HostData,
		ReportedTCB:        simulatedTCB,
		CPUID:              processor,
		ChipID:             id,
		CommittedTCB:       simulatedTCB,
		CurrentVersion:     version,
		CommittedVersion:   version,
		LaunchTCB:          simulatedTCB,
	}}
	_, _ = rand.Read(g.base.ReportID[:]) // never fails: the runtime ends the process instead
	_, _ = rand.Read(g.vmrk[:])
	for i := range g.base.ReportIDMA {
		g.base.ReportIDMA[i] = 0xff // no migration agent
	}
	return g, nil
}

// checkPolicy is the check of SNP_LAUNCH_START.
func checkPolicy(p snp.GuestPolicy) error {
	unmet := snp.PolicyMigrateMA | snp.PolicyAES256XTS | snp.PolicyRAPLDisabled | snp.PolicyCiphertextHiding
	switch {
	case !p.Has(snp.PolicyReservedOne):
		return errors.New("bit 17 is not set")
	case p.Unknown() != 0:
		return fmt.Errorf("bits %#x are unknown", uint64(p.Unknown()))
	case p.ABIMajor() > abiMajor || p.ABIMajor() == abiMajor && p.ABIMinor() > abiMinor:
		return fmt.Errorf("it needs ABI %d.%d, the firmware has %d.%d", p.ABIMajor(), p.ABIMinor(), abiMajor, abiMinor)
	case platformInfo.Has(snp.PlatformSMT) && !p.Has(snp.PolicySMT):
		return errors.New("it forbids multithreading, which is on")
	case p&unmet != 0:
		return fmt.Errorf("it needs %s, which the machine lacks", p&unmet)
	}
	return nil
}

// Measurement returns the launch digest.
func (g *Guest) Measurement() [48]byte { return g.base.Measurement }

// HostData returns what was fixed at launch.
func (g *Guest) HostData() [32]byte { return g.base.HostData }

// Certificates returns the chain of the guest's reports in DER: chip key, intermediate, root.
func (g *Guest) Certificates() [][]byte {
	return [][]byte{slices.Clone(g.p.vcekDER), slices.Clone(g.p.ask.Raw), slices.Clone(g.p.ark.Raw)}
}

// String names the guest without its secrets.
func (g *Guest) String() string { return fmt.Sprintf("simulated guest %x", g.base.ReportID[:8]) }

// GoString is String, so that no format prints keys.
func (g *Guest) GoString() string { return g.String() }

// report signs a report over the guest's fixed fields and what it asked for.
func (g *Guest) report(data [64]byte, vmpl uint32) ([]byte, error) {
	r := g.base
	r.ReportData, r.VMPL = data, vmpl
	digest := sha512.Sum384(r.SignedBytes())
	rr, ss, err := ecdsa.Sign(rand.Reader, g.p.vcek, digest[:])
	if err != nil {
		return nil, fmt.Errorf("signing report: %w", err)
	}
	r.R, r.S = littleEndian(rr), littleEndian(ss)
	return r.Marshal(), nil
}

func littleEndian(v *big.Int) [48]byte {
	b := [48]byte(v.FillBytes(make([]byte, 48)))
	slices.Reverse(b[:])
	return b
}

// derivedKey follows MSG_KEY_REQ: the key depends on the root key, the privilege level and the selected fields, and on
// nothing else.
func (g *Guest) derivedKey(r *snp.KeyRequest) (snp.DerivedKey, error) {
	c := *r
	if c.Fields&snp.FieldGuestSVN == 0 {
		c.GuestSVN = 0
	}
	if c.Fields&snp.FieldTCB == 0 {
		c.TCB = snp.TCB{}
	}
	context := c.Marshal() // holds the selection, so that a field not selected differs from one that is zero
	b := &g.base
	for _, f := range []struct {
		bit   snp.FieldSelect
		value []byte
	}{
		{snp.FieldPolicy, binary.LittleEndian.AppendUint64(nil, uint64(b.Policy))},
		{snp.FieldImageID, b.ImageID[:]},
		{snp.FieldFamilyID, b.FamilyID[:]},
		{snp.FieldMeasurement, b.Measurement[:]},
	} {
		if r.Fields&f.bit == 0 {
			f.value = make([]byte, len(f.value))
		}
		context = append(context, f.value...)
	}
	root := g.p.chip
	if r.RootKey == snp.RootKeyVMRK {
		root = g.vmrk
	}
	key, err := root.derive("derived key", string(context), 32)
	if err != nil {
		return snp.DerivedKey{}, err
	}
	return snp.DerivedKey(key), nil
}
