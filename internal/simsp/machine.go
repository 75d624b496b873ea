// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"cofferdam.dev/evidence/snp"
)

// Machine is the part of the simulated machine that belongs to its host: what it has, the firmware that it runs, and how
// that is configured. It is what the commands of the firmware's host interface change on a real machine, and the faults
// that a test wants to see. Nothing of it is secret and nothing of it protects anything.
//
// Three TCB versions follow the firmware's rule reported ≤ committed ≤ current, part by part.
type Machine struct {
	// Product is the name of the processor: one of Products.
	Product string `json:"product"`
	// ReportVersion is the version of the reports: 2, 3 or 5.
	ReportVersion uint32 `json:"reportVersion"`
	// SMT, TSME, RAPLDisabled, CiphertextHiding and AliasChecked are bits of PLATFORM_INFO.
	SMT              bool `json:"smt"`
	TSME             bool `json:"tsme"`
	RAPLDisabled     bool `json:"raplDisabled"`
	CiphertextHiding bool `json:"ciphertextHiding"`
	AliasChecked     bool `json:"aliasChecked"`
	// Sockets is the number of processors, 1 or 2.
	Sockets int `json:"sockets"`

	// Current is the TCB that runs, Committed the one below which the firmware no longer goes, and Reported the one that
	// the host chose to report and whose key signs.
	Current   snp.TCBParts `json:"current"`
	Committed snp.TCBParts `json:"committed"`
	Reported  snp.TCBParts `json:"reported"`
	// CurrentVersion and CommittedVersion are the firmware's own versions.
	CurrentVersion   Version `json:"currentVersion"`
	CommittedVersion Version `json:"committedVersion"`

	// Provider is the cloud provider whose endorsement key (VLEK) is loaded; with an empty one the chip's own key signs.
	Provider string `json:"provider,omitempty"`
	// MaskChipID leaves the chip's ID out of reports. MaskChipKey takes the chip's key out of use: without a provider's
	// key reports are unsigned, and no key can be derived. Both are settings of SNP_CONFIG.
	MaskChipID  bool `json:"maskChipID,omitempty"`
	MaskChipKey bool `json:"maskChipKey,omitempty"`

	// ExpiredProvider is a fault: the certificate of the provider's key is past its year.
	ExpiredProvider bool `json:"expiredProvider,omitempty"`
	// RevokedIntermediate is a fault: the root's revocation list names the intermediate that vouches for the signing key.
	RevokedIntermediate bool `json:"revokedIntermediate,omitempty"`
}

// Version is a version of the secure processor's firmware.
type Version struct {
	Major uint8 `json:"major"`
	Minor uint8 `json:"minor"`
	Build uint8 `json:"build"`
}

// String returns the version as MAJOR.MINOR.BUILD.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Build) }

func (v Version) report() snp.FirmwareVersion {
	return snp.FirmwareVersion{Major: v.Major, Minor: v.Minor, Build: v.Build}
}

// atLeast orders versions by major, minor and build.
func (v Version) atLeast(w Version) bool {
	return slices.Compare([]byte{v.Major, v.Minor, v.Build}, []byte{w.Major, w.Minor, w.Build}) >= 0
}

// product is a kind of processor that can be simulated.
type product struct {
	name string
	line snp.ProductLine
	// certificate is the name that chip certificates give it.
	certificate string
	cpuid       snp.CPUID
	reports     uint32
	tcb         snp.TCBParts
}

// products are the processors that can be simulated, each with firmware that was current when its reports were seen.
var products = []product{
	{"Milan", snp.Milan, "Milan-B0", snp.CPUID{Family: 0x19, Model: 0x01, Stepping: 0x01}, 3,
		snp.TCBParts{Bootloader: 4, SNP: 0x18, Microcode: 0xdb}},
	{"Genoa", snp.Genoa, "Genoa", snp.CPUID{Family: 0x19, Model: 0x11, Stepping: 0x01}, 3,
		snp.TCBParts{Bootloader: 9, SNP: 0x17, Microcode: 0x54}},
	{"Siena", snp.Genoa, "Genoa", snp.CPUID{Family: 0x19, Model: 0xa0, Stepping: 0x02}, 5,
		snp.TCBParts{Bootloader: 9, SNP: 0x17, Microcode: 0x19}},
	{"Turin", snp.Turin, "Turin", snp.CPUID{Family: 0x1a, Model: 0x02, Stepping: 0x01}, 5,
		snp.TCBParts{FMC: 1, Bootloader: 1, TEE: 1, SNP: 4, Microcode: 0x4d}},
}

// Products returns the names of the processors that can be simulated.
func Products() []string {
	names := make([]string, len(products))
	for i, p := range products {
		names[i] = p.name
	}
	return names
}

func findProduct(name string) (product, error) {
	i := slices.IndexFunc(products, func(p product) bool { return p.name == name })
	if i < 0 {
		return product{}, fmt.Errorf("product %q is not one of %s", name, strings.Join(Products(), ", "))
	}
	return products[i], nil
}

// The firmware of a machine that nobody changed.
var firmware = Version{Major: 1, Minor: 55, Build: 29}

// NewMachine returns a machine of a product as it leaves the factory: one socket, multithreading on, memory checked for
// aliases, and firmware that is committed and reported.
func NewMachine(name string) (Machine, error) {
	p, err := findProduct(name)
	if err != nil {
		return Machine{}, err
	}
	return Machine{
		Product: name, ReportVersion: p.reports, SMT: true, AliasChecked: true, Sockets: 1,
		Current: p.tcb, Committed: p.tcb, Reported: p.tcb, CurrentVersion: firmware, CommittedVersion: firmware,
	}, nil
}

// DefaultMachine is the machine of an installation that nobody changed: a Milan.
func DefaultMachine() Machine {
	m, err := NewMachine("Milan")
	if err != nil { // not reached: the name is in the table
		return Machine{}
	}
	return m
}

// Validate returns an error when no real machine can be in this state.
func (m *Machine) Validate() error {
	p, err := findProduct(m.Product)
	if err != nil {
		return err
	}
	for _, t := range []struct {
		name string
		tcb  snp.TCBParts
	}{{"current", m.Current}, {"committed", m.Committed}, {"reported", m.Reported}} {
		if _, err := t.tcb.TCB(p.line); err != nil {
			return fmt.Errorf("%s TCB: %w", t.name, err)
		}
	}
	switch {
	case m.ReportVersion != 2 && m.ReportVersion != 3 && m.ReportVersion != 5:
		return fmt.Errorf("report version is %d, not 2, 3 or 5", m.ReportVersion)
	case m.Sockets != 1 && m.Sockets != 2:
		return fmt.Errorf("there are %d sockets, not 1 or 2", m.Sockets)
	case !m.Current.AtLeast(m.Committed):
		return fmt.Errorf("current TCB (%s) is below the committed one (%s)", m.Current, m.Committed)
	case !m.Committed.AtLeast(m.Reported):
		return fmt.Errorf("committed TCB (%s) is below the reported one (%s)", m.Committed, m.Reported)
	case !m.CurrentVersion.atLeast(m.CommittedVersion):
		return fmt.Errorf("current firmware %s is older than the committed %s", m.CurrentVersion, m.CommittedVersion)
	case m.ExpiredProvider && m.Provider == "":
		return errors.New("no provider's key is loaded that could be expired")
	case len(m.Provider) > maxProvider || strings.ContainsFunc(m.Provider, func(r rune) bool { return r < 0x20 || r > 0x7e }):
		return fmt.Errorf("provider %q is not up to %d printable ASCII characters", m.Provider, maxProvider)
	}
	return nil
}

const maxProvider = 64

// Update puts other firmware in place of the running one, as DOWNLOAD_FIRMWARE_EX does: newer or older, but never below
// what is committed. Until it is committed it is provisional.
func (m *Machine) Update(tcb snp.TCBParts, v Version) error {
	changed := *m
	changed.Current, changed.CurrentVersion = tcb, v
	return m.become(changed)
}

// Commit makes it impossible to go back behind the running firmware, and reports it, as SNP_COMMIT does.
func (m *Machine) Commit() error {
	changed := *m
	changed.Committed, changed.CommittedVersion, changed.Reported = m.Current, m.CurrentVersion, m.Current
	return m.become(changed)
}

// Report chooses the TCB version that is reported, as SNP_CONFIG does: one that is not above the committed one.
func (m *Machine) Report(tcb snp.TCBParts) error {
	changed := *m
	changed.Reported = tcb
	return m.become(changed)
}

// become changes the machine if it can be in the other state, and leaves it unchanged otherwise.
func (m *Machine) become(changed Machine) error {
	err := changed.Validate()
	if err != nil {
		return err
	}
	*m = changed
	return nil
}

// platformInfo is the word that reports carry.
func (m *Machine) platformInfo() snp.PlatformInfo {
	info := snp.PlatformECC
	for _, f := range []struct {
		on  bool
		bit snp.PlatformInfo
	}{
		{m.SMT, snp.PlatformSMT}, {m.TSME, snp.PlatformTSME}, {m.RAPLDisabled, snp.PlatformRAPLDisabled},
		{m.CiphertextHiding, snp.PlatformCiphertextHiding}, {m.AliasChecked, snp.PlatformAliasCheckComplete},
	} {
		if f.on {
			info |= f.bit
		}
	}
	return info
}

// signingKey is the kind of key that signs when the guest leaves the choice to the firmware.
func (m *Machine) signingKey() snp.SigningKey {
	switch {
	case m.Provider != "":
		return snp.SigningKeyVLEK
	case m.MaskChipKey:
		return snp.SigningKeyNone
	}
	return snp.SigningKeyVCEK
}
