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
	// IDBlock and IDAuth are the owner's word about the launch, encoded as snp.IDBlock and snp.IDAuth, or both empty.
	IDBlock, IDAuth []byte
	// AuthorKey says that IDAuth holds an author key, which vouches for the ID key.
	AuthorKey bool
	// VMPL is the privilege level of whoever uses the guest's port, 0 to 3. What is more privileged is out of its reach.
	VMPL uint32
}

// Guest is a launched guest. It holds what the firmware keeps of it, all of it fixed.
type Guest struct {
	p       *Processor
	product product
	base    snp.Report
	// vmrk is the root of keys that die with the guest.
	vmrk chipSecret
}

// Launch measures the files and fixes everything that a guest's reports say of it. It refuses a policy that this simulated
// machine does not meet and an ID block that the launch does not fit, as firmware does.
func (p *Processor) Launch(l Launch) (*Guest, error) {
	g, err := p.launch(l)
	if err != nil {
		return nil, fmt.Errorf("launching simulated guest: %w", err)
	}
	return g, nil
}

func (p *Processor) launch(l Launch) (*Guest, error) {
	m, err := p.Machine()
	if err != nil {
		return nil, err
	}
	if err := m.admit(l.Policy); err != nil {
		return nil, fmt.Errorf("policy %s: %w", l.Policy, err)
	}
	if l.VCPUs < 1 || l.VCPUs > measure.MaxVCPUs {
		return nil, fmt.Errorf("there are %d virtual processors, not 1 to %d", l.VCPUs, measure.MaxVCPUs)
	}
	if l.VMPL > maxVMPL {
		return nil, fmt.Errorf("privilege level is %d, not 0 to %d", l.VMPL, maxVMPL)
	}
	hashes, err := measure.HashBoot(l.KernelPath, l.InitrdPath, l.Cmdline)
	if err != nil {
		return nil, err
	}
	of, err := findProduct(m.Product)
	if err != nil {
		return nil, err
	}
	g := &Guest{p: p, product: of, base: snp.Report{
		Policy:             l.Policy,
		VMPL:               l.VMPL,
		SignatureAlgorithm: snp.SignatureECDSAP384SHA384,
		Measurement:        measure.Simulated(hashes, l.VCPUs),
		HostData:           l.HostData,
	}}
	if g.base.LaunchTCB, err = m.Current.TCB(of.line); err != nil {
		return nil, err
	}
	if err := g.identify(l); err != nil {
		return nil, err
	}
	_, _ = rand.Read(g.base.ReportID[:]) // never fails: the runtime ends the process instead
	_, _ = rand.Read(g.vmrk[:])
	for i := range g.base.ReportIDMA {
		g.base.ReportIDMA[i] = 0xff // no migration agent
	}
	return g, nil
}

// admit is the check of SNP_LAUNCH_START: whether the machine gives what a guest policy asks for. Debugging and page
// swapping are the guest's permissions, which no machine fails to meet.
func (m *Machine) admit(p snp.GuestPolicy) error {
	unmet := snp.PolicyMigrateMA | snp.PolicyAES256XTS // no migration agent, no such memory encryption
	if !m.RAPLDisabled {
		unmet |= snp.PolicyRAPLDisabled
	}
	if !m.CiphertextHiding {
		unmet |= snp.PolicyCiphertextHiding
	}
	if m.Sockets > 1 {
		unmet |= snp.PolicySingleSocket
	}
	switch {
	case !p.Has(snp.PolicyReservedOne):
		return errors.New("bit 17 is not set")
	case p.Unknown() != 0:
		return fmt.Errorf("bits %#x are unknown", uint64(p.Unknown()))
	case p.ABIMajor() > abiMajor || p.ABIMajor() == abiMajor && p.ABIMinor() > abiMinor:
		return fmt.Errorf("it needs ABI %d.%d, the firmware has %d.%d", p.ABIMajor(), p.ABIMinor(), abiMajor, abiMinor)
	case m.SMT && !p.Has(snp.PolicySMT):
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

// Certificates returns the chain of the guest's reports in DER, the signing key's first and the root last. It is empty
// when the machine masks the chip's key, for then nothing signs.
func (g *Guest) Certificates() ([][]byte, error) {
	m, err := g.machine()
	if err != nil {
		return nil, err
	}
	kind := m.signingKey()
	if kind == snp.SigningKeyNone {
		return nil, nil
	}
	e, err := g.p.endorse(m, kind)
	if err != nil {
		return nil, err
	}
	return e.certificates(), nil
}

// machine returns the machine as it is now. A guest stays on the processor that it was launched on.
func (g *Guest) machine() (*Machine, error) {
	m, err := g.p.Machine()
	if err != nil {
		return nil, err
	}
	if m.Product != g.product.name {
		return nil, fmt.Errorf("the machine has become a %s under a guest of a %s", m.Product, g.product.name)
	}
	return &m, nil
}

// String names the guest without its secrets.
func (g *Guest) String() string { return fmt.Sprintf("simulated guest %x", g.base.ReportID[:8]) }

// GoString is String, so that no format prints keys.
func (g *Guest) GoString() string { return g.String() }

// report makes a report of the guest's fixed fields, the machine's state and what the guest asked for, and signs it.
func (g *Guest) report(m *Machine, kind snp.SigningKey, data [64]byte, vmpl uint32) ([]byte, error) {
	r := g.base
	r.ReportData, r.VMPL = data, vmpl
	if err := g.describe(&r, m); err != nil {
		return nil, fmt.Errorf("making report: %w", err)
	}
	r.KeyInfo |= snp.KeyInfo(kind) << 2
	if m.MaskChipKey {
		r.KeyInfo |= snp.KeyInfoMaskChipKey
	}
	if kind == snp.SigningKeyNone {
		return r.Marshal(), nil
	}
	e, err := g.p.endorse(m, kind)
	if err != nil {
		return nil, fmt.Errorf("signing report: %w", err)
	}
	digest := sha512.Sum384(r.SignedBytes())
	rr, ss, err := ecdsa.Sign(rand.Reader, e.key, digest[:])
	if err != nil {
		return nil, fmt.Errorf("signing report: %w", err)
	}
	r.R, r.S = littleEndian(rr), littleEndian(ss)
	return r.Marshal(), nil
}

// describe fills in what reports say of the machine.
func (g *Guest) describe(r *snp.Report, m *Machine) error {
	var errs [3]error
	r.Version, r.CPUID, r.PlatformInfo = m.ReportVersion, g.product.cpuid, m.platformInfo()
	r.CurrentTCB, errs[0] = m.Current.TCB(g.product.line)
	r.CommittedTCB, errs[1] = m.Committed.TCB(g.product.line)
	r.ReportedTCB, errs[2] = m.Reported.TCB(g.product.line)
	r.CurrentVersion, r.CommittedVersion = m.CurrentVersion.report(), m.CommittedVersion.report()
	if !m.MaskChipID {
		id, err := g.p.chip.hwid(g.product.line)
		if err != nil {
			return err
		}
		copy(r.ChipID[:], id)
	}
	return errors.Join(errs[:]...)
}

func littleEndian(v *big.Int) [48]byte {
	b := [48]byte(v.FillBytes(make([]byte, 48)))
	slices.Reverse(b[:])
	return b
}

// derivedKey follows MSG_KEY_REQ: the key depends on the root key, the privilege level and the selected fields, and on
// nothing else.
func (g *Guest) derivedKey(m *Machine, r *snp.KeyRequest) (snp.DerivedKey, error) {
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
	root, err := g.derivationRoot(m, r.RootKey)
	if err != nil {
		return snp.DerivedKey{}, err
	}
	key, err := root.derive("derived key", string(context), 32)
	if err != nil {
		return snp.DerivedKey{}, err
	}
	return snp.DerivedKey(key), nil
}

// derivationRoot is the secret that keys are derived from: the guest's own, else a loaded provider's, else the chip's.
func (g *Guest) derivationRoot(m *Machine, selected uint32) (chipSecret, error) {
	switch {
	case selected == snp.RootKeyVMRK:
		return g.vmrk, nil
	case m.Provider == "":
		return g.p.chip, nil
	}
	b, err := g.p.chip.derive("provider root", m.Provider, len(chipSecret{}))
	if err != nil {
		return chipSecret{}, err
	}
	return chipSecret(b), nil
}
