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
// What a host can do to a real machine it can do to this one: update firmware and go back, commit it, choose the TCB that
// is reported, load a provider's key, mask the chip's ID or key. Machine holds that, with the faults that tests play.
//
// The package trusts the host's files and nothing from the guest, whose every message is bounded and parsed strictly. It
// never talks to hardware, never signs for a guest that it did not launch, and never prints a key.
package simsp

import (
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"sync"

	"cofferdam.dev/evidence/snp"
)

// The interface that the firmware offers to guests.
const (
	abiMajor = 1
	abiMinor = 55
)

// Processor is the simulated secure processor of one installation. It is safe for concurrent use.
type Processor struct {
	dir      string
	ark, ask *x509.Certificate
	askKey   *rsa.PrivateKey
	chip     chipSecret

	mu           sync.Mutex
	endorsements map[endorsed]*endorsement
}

// Open returns the processor whose root lies in dir, and makes that root on first use. Making takes seconds, happens once
// however many processes ask, and leaves either a whole root or none. All files are readable by their owner alone; Open
// refuses a directory whose files are not.
func Open(dir string) (*Processor, error) {
	m, err := openRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening simulated secure processor in %s: %w", dir, err)
	}
	p := &Processor{dir: dir, ark: m.ark, ask: m.ask, askKey: m.askKey, chip: m.chip, endorsements: map[endorsed]*endorsement{}}
	if err := p.prepare(); err != nil {
		return nil, fmt.Errorf("opening simulated secure processor in %s: %w", dir, err)
	}
	return p, nil
}

// prepare makes what the machine will need now: its root, so that relying parties find it, and its key's certificate.
func (p *Processor) prepare() error {
	m, err := p.Machine()
	if err != nil {
		return err
	}
	of, err := findProduct(m.Product)
	if err != nil {
		return err
	}
	kind := m.signingKey()
	if _, err := p.authority(of.line, m.Provider != ""); err != nil || kind == snp.SigningKeyNone {
		return err
	}
	_, err = p.endorse(&m, kind)
	return err
}

// Machine returns the state of the machine as its host left it.
func (p *Processor) Machine() (Machine, error) { return LoadMachine(p.dir) }

// Chain returns the root and the intermediate certificate that were made with the installation: those of chip keys of
// Milan. Authority has the others.
func (p *Processor) Chain() (ark, ask *x509.Certificate) { return p.ark, p.ask }

// String names the processor without its secrets.
func (p *Processor) String() string { return "simulated secure processor" }

// GoString is String, so that no format prints keys.
func (p *Processor) GoString() string { return p.String() }
