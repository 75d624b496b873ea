// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"slices"

	"cofferdam.dev/evidence/snp"
)

// endorsement is a key that signs reports, with the certificates that lead from it to the root, the leaf first.
type endorsement struct {
	key   *ecdsa.PrivateKey
	certs [][]byte
}

// endorsed is everything that an endorsement depends on.
type endorsed struct {
	product  string
	kind     snp.SigningKey
	tcb      snp.TCB
	provider string
	expired  bool
}

// maxEndorsements bounds how many endorsements are kept: a host can go through many TCB versions.
const maxEndorsements = 16

// endorse returns the key of a kind for the TCB version that the machine reports.
func (p *Processor) endorse(m *Machine, kind snp.SigningKey) (*endorsement, error) {
	of, err := findProduct(m.Product)
	if err != nil {
		return nil, err
	}
	tcb, err := m.Reported.TCB(of.line)
	if err != nil {
		return nil, err
	}
	want := endorsed{product: of.certificate, kind: kind, tcb: tcb}
	if kind == snp.SigningKeyVLEK {
		want.provider, want.expired = m.Provider, m.ExpiredProvider
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if e, ok := p.endorsements[want]; ok {
		return e, nil
	}
	e, err := p.newEndorsement(of, want)
	if err != nil {
		return nil, err
	}
	if len(p.endorsements) >= maxEndorsements {
		clear(p.endorsements)
	}
	p.endorsements[want] = e
	return e, nil
}

func (p *Processor) newEndorsement(of product, want endorsed) (*endorsement, error) {
	var key *ecdsa.PrivateKey
	var leaf *x509.Certificate
	var err error
	vlek := want.kind == snp.SigningKeyVLEK
	switch {
	case vlek:
		if key, err = p.chip.vlek(want.provider, want.tcb); err != nil {
			return nil, err
		}
		leaf, err = p.issueVLEK(of, want.tcb, want.provider, want.expired, key.Public())
	case want.kind == snp.SigningKeyVCEK:
		if key, err = p.chip.vcek(want.tcb); err != nil {
			return nil, err
		}
		leaf, err = p.issueVCEK(of, want.tcb, key.Public())
	default:
		return nil, fmt.Errorf("no key signs as %s", want.kind)
	}
	if err != nil {
		return nil, err
	}
	a, err := p.authority(of.line, vlek)
	if err != nil {
		return nil, err
	}
	return &endorsement{key: key, certs: [][]byte{leaf.Raw, a.intermediate.Raw, a.ark.Raw}}, nil
}

func (e *endorsement) certificates() [][]byte {
	certs := make([][]byte, len(e.certs))
	for i, c := range e.certs {
		certs[i] = slices.Clone(c)
	}
	return certs
}

// ChipID returns the chip's unique ID as certificates of a product line have it: 64 bytes, eight on Turin.
func (p *Processor) ChipID(line snp.ProductLine) ([]byte, error) {
	if _, err := snp.ParseProductLine(string(line)); err != nil {
		return nil, err
	}
	return p.chip.hwid(line)
}

// ChipCertificate returns the certificate of this chip's key for a product line and a TCB version in DER, as AMD's key
// distribution service does for a real chip.
func (p *Processor) ChipCertificate(line snp.ProductLine, tcb snp.TCB) ([]byte, error) {
	i := slices.IndexFunc(products, func(o product) bool { return o.line == line })
	if i < 0 {
		return nil, fmt.Errorf("issuing chip certificate: product line %q is unknown", line)
	}
	parts, err := tcb.Parts(line)
	if err != nil {
		return nil, fmt.Errorf("issuing chip certificate: %w", err)
	}
	e, err := p.endorse(&Machine{Product: products[i].name, Reported: parts}, snp.SigningKeyVCEK)
	if err != nil {
		return nil, fmt.Errorf("issuing chip certificate: %w", err)
	}
	return slices.Clone(e.certs[0]), nil
}
