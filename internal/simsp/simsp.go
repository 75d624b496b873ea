// SPDX-License-Identifier: Apache-2.0

// Package simsp is a simulated AMD secure processor. It does on the host what the real one does in hardware: it measures
// what a guest is booted from, fixes host data and policy at launch, and answers the guest's firmware messages with
// attestation reports and derived keys. Reports have the real layout and are signed by a real chain of certificates, so
// that the code which appraises hardware appraises them too; only the root differs.
//
// The root is made per installation and lies on the host's disk. A simulated report therefore proves nothing against the
// host: whoever can read the directory can sign anything. The certificates say so in their organization's name, which is
// snp.SimulatedOrganization, and a verifier accepts them only when it was told to, by name, under the trust domain
// "simulated".
//
// The package trusts the host's files and nothing from the guest, whose every message is bounded and parsed strictly. It
// never talks to hardware, never signs for a guest that it did not launch, and never prints a key.
package simsp

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"fmt"

	"cofferdam.dev/evidence/snp"
)

// What the simulated machine claims to be: a Milan processor with current firmware.
const (
	productName   = "Milan-B0"
	abiMajor      = 1
	abiMinor      = 55
	firmwareBuild = 29
	reportVersion = 3

	platformInfo = snp.PlatformSMT | snp.PlatformECC | snp.PlatformAliasCheckComplete
)

var processor = snp.CPUID{Family: 0x19, Model: 0x01, Stepping: 0x01}

// simulatedTCB is the current, committed and reported TCB version.
var simulatedTCB = snp.TCB{0: 4, 6: 0x18, 7: 0xdb}

// Processor is the simulated secure processor of one installation. It is safe for concurrent use.
type Processor struct {
	ark, ask *x509.Certificate
	askKey   *rsa.PrivateKey
	chip     chipSecret
	vcek     *ecdsa.PrivateKey
	vcekDER  []byte
}

// Open returns the processor whose root lies in dir, and makes that root on first use. Making takes seconds, happens once
// however many processes ask, and leaves either a whole root or none. All files are readable by their owner alone; Open
// refuses a directory whose files are not.
func Open(dir string) (*Processor, error) {
	m, err := openRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening simulated secure processor in %s: %w", dir, err)
	}
	p := &Processor{ark: m.ark, ask: m.ask, askKey: m.askKey, chip: m.chip}
	if p.vcek, err = m.chip.vcek(simulatedTCB); err != nil {
		return nil, fmt.Errorf("opening simulated secure processor in %s: %w", dir, err)
	}
	if p.vcekDER, err = p.issueVCEK(); err != nil {
		return nil, fmt.Errorf("opening simulated secure processor in %s: %w", dir, err)
	}
	return p, nil
}

// Chain returns the root and the intermediate certificate.
func (p *Processor) Chain() (ark, ask *x509.Certificate) { return p.ark, p.ask }

// String names the processor without its secrets.
func (p *Processor) String() string { return "simulated secure processor" }

// GoString is String, so that no format prints keys.
func (p *Processor) GoString() string { return p.String() }
