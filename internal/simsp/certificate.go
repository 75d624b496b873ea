// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"cofferdam.dev/evidence/snp"
)

// Validity periods of AMD's certificates.
const (
	caYears   = 25
	vcekYears = 7
	vlekYears = 1
)

// name builds a subject with the attributes of AMD's, in AMD's order.
func name(common string) pkix.Name {
	attribute := func(last int, value string) pkix.AttributeTypeAndValue {
		return pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, last}, Value: value}
	}
	return pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		attribute(11, "Simulated secure processor"),
		attribute(6, "XX"),
		attribute(7, "Nowhere"),
		attribute(8, "NA"),
		attribute(10, snp.SimulatedOrganization),
		attribute(3, common),
	}}
}

// rootTemplate has the profile of AMD's roots, such as ARK-Milan.
func rootTemplate(line snp.ProductLine, from time.Time) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          big.NewInt(serialARK),
		Subject:               name(rootName(line)),
		NotBefore:             from,
		NotAfter:              from.AddDate(caYears, 0, 0),
		SignatureAlgorithm:    x509.SHA384WithRSAPSS,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            -1,
	}
}

// intermediateTemplate has the profile of AMD's intermediates, such as SEV-Milan.
func intermediateTemplate(line snp.ProductLine, vlek bool, from time.Time) *x509.Certificate {
	serial := int64(serialASK)
	if vlek {
		serial = serialASVK
	}
	return &x509.Certificate{
		SerialNumber:          big.NewInt(serial),
		Subject:               name(intermediateName(line, vlek)),
		NotBefore:             from,
		NotAfter:              from.AddDate(caYears, 0, 0),
		SignatureAlgorithm:    x509.SHA384WithRSAPSS,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
}

// issueCAs makes the self-signed root and the intermediate of an installation: those of chip keys of Milan.
func issueCAs(arkKey, askKey *rsa.PrivateKey, now time.Time) (ark, ask *x509.Certificate, err error) {
	root := rootTemplate(snp.Milan, now)
	ark, err = issue(root, root, arkKey.Public(), arkKey)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing root: %w", err)
	}
	ask, err = issue(intermediateTemplate(snp.Milan, false, now), ark, askKey.Public(), arkKey)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing intermediate: %w", err)
	}
	return ark, ask, nil
}

// issueVCEK makes the certificate of a chip key. Only its signature differs between two calls.
func (p *Processor) issueVCEK(of product, tcb snp.TCB, public any) (*x509.Certificate, error) {
	a, err := p.authority(of.line, false)
	if err != nil {
		return nil, err
	}
	id, err := p.chip.hwid(of.line)
	if err != nil {
		return nil, err
	}
	exts, err := snp.ChipExtensions(of.certificate, tcb, id)
	if err != nil {
		return nil, err
	}
	return p.issueLeaf(a, "SEV-VCEK", exts, a.intermediate.NotBefore, a.intermediate.NotBefore.AddDate(vcekYears, 0, 0), public)
}

// issueVLEK makes the certificate of a provider's key: it begins an hour ago, or ended a day ago.
func (p *Processor) issueVLEK(of product, tcb snp.TCB, provider string, expired bool, public any) (*x509.Certificate, error) {
	a, err := p.authority(of.line, true)
	if err != nil {
		return nil, err
	}
	exts, err := snp.ProviderExtensions(of.certificate, tcb, provider)
	if err != nil {
		return nil, err
	}
	from := time.Now().UTC().Add(-time.Hour).Truncate(time.Second)
	if expired {
		from = from.AddDate(-vlekYears, 0, -1)
	}
	return p.issueLeaf(a, "SEV-VLEK", exts, from, from.AddDate(vlekYears, 0, 0), public)
}

func (p *Processor) issueLeaf(a *authority, common string, exts []pkix.Extension, from, until time.Time, public any) (*x509.Certificate, error) {
	cert, err := issue(&x509.Certificate{
		SerialNumber:       big.NewInt(0),
		Subject:            name(common),
		NotBefore:          from,
		NotAfter:           until,
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ExtraExtensions:    exts,
	}, a.intermediate, public, p.askKey)
	if err != nil {
		return nil, fmt.Errorf("issuing certificate %s: %w", common, err)
	}
	return cert, nil
}

func issue(template, parent *x509.Certificate, public any, key *rsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
