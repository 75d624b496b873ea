// SPDX-License-Identifier: Apache-2.0

package anchor

import (
	"crypto/x509"
	"strings"
	"time"
)

// Link is one certificate of a chain, as verdicts show it.
type Link struct {
	// Role is "root", "intermediate", or the word of the evidence's kind for the certificate of the key that signed, such
	// as "chip".
	Role string `json:"role"`
	// Name is the name under which a root was configured.
	Name string `json:"name,omitempty"`
	// Label is the subject's common name and organization.
	Label string `json:"label"`
	// Subject is the certificate's subject.
	Subject string `json:"subject"`
	// SPKI is the SHA-256 of the certificate's public key in hexadecimal.
	SPKI string `json:"spkiSHA256"`
	// NotBefore and NotAfter are the certificate's validity.
	NotBefore time.Time `json:"notBefore"`
	NotAfter  time.Time `json:"notAfter"`
}

// NewLink describes a certificate.
func NewLink(role, name string, cert *x509.Certificate) Link {
	label := cert.Subject.CommonName + " of " + strings.Join(cert.Subject.Organization, ", ")
	return Link{
		Role: role, Name: name, Label: label, Subject: cert.Subject.String(), SPKI: SPKI(cert), NotBefore: cert.NotBefore.UTC(),
		NotAfter: cert.NotAfter.UTC(),
	}
}
