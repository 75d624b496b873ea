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

// issueCAs makes the self-signed root and the intermediate, with the profile of ARK-Milan and SEV-Milan.
func issueCAs(arkKey, askKey *rsa.PrivateKey, now time.Time) (ark, ask *x509.Certificate, err error) {
	root := &x509.Certificate{
		SerialNumber:          big.NewInt(0x10000),
		Subject:               name("ARK-" + string(snp.Milan)),
		NotBefore:             now,
		NotAfter:              now.AddDate(caYears, 0, 0),
		SignatureAlgorithm:    x509.SHA384WithRSAPSS,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLen:            -1,
	}
	ark, err = issue(root, root, arkKey.Public(), arkKey)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing root: %w", err)
	}
	intermediate := &x509.Certificate{
		SerialNumber:          big.NewInt(0x10001),
		Subject:               name("SEV-" + string(snp.Milan)),
		NotBefore:             now,
		NotAfter:              now.AddDate(caYears, 0, 0),
		SignatureAlgorithm:    x509.SHA384WithRSAPSS,
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	ask, err = issue(intermediate, ark, askKey.Public(), arkKey)
	if err != nil {
		return nil, nil, fmt.Errorf("issuing intermediate: %w", err)
	}
	return ark, ask, nil
}

// issueVCEK makes the certificate of the chip key. Only its signature differs between two calls.
func (p *Processor) issueVCEK() ([]byte, error) {
	id, err := p.chip.id()
	if err != nil {
		return nil, err
	}
	exts, err := snp.ChipExtensions(productName, simulatedTCB, id[:])
	if err != nil {
		return nil, err
	}
	cert, err := issue(&x509.Certificate{
		SerialNumber:       big.NewInt(0),
		Subject:            name("SEV-VCEK"),
		NotBefore:          p.ask.NotBefore,
		NotAfter:           p.ask.NotBefore.AddDate(vcekYears, 0, 0),
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
		ExtraExtensions:    exts,
	}, p.ask, p.vcek.Public(), p.askKey)
	if err != nil {
		return nil, fmt.Errorf("issuing chip certificate: %w", err)
	}
	return cert.Raw, nil
}

func issue(template, parent *x509.Certificate, public any, key *rsa.PrivateKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
