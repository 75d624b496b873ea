// SPDX-License-Identifier: Apache-2.0

package didx509

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	_ "crypto/sha512" // SHA-384 and SHA-512, by crypto.Hash
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"
)

// attributes are the names of subject attributes that have a short form, by their object identifiers.
var attributes = map[string]string{
	"CN": "2.5.4.3", "C": "2.5.4.6", "L": "2.5.4.7", "ST": "2.5.4.8", "STREET": "2.5.4.9", "O": "2.5.4.10", "OU": "2.5.4.11",
}

// sanTags are the tags of the general names that are supported (RFC 5280, 4.2.1.6).
var sanTags = map[string]int{"email": 1, "dns": 2, "uri": 6}

var (
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidExtKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidFulcioIssuer   = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 1}
)

// Resolve checks that an identifier names the signer whose chain is given, leaf first, and returns the key that it
// resolves to: the leaf's. The chain must be valid at the given time; see VerifyChain for the zero time.
func Resolve(did string, chain []*x509.Certificate, at time.Time) (crypto.PublicKey, error) {
	d, err := Parse(did)
	if err != nil {
		return nil, err
	}
	err = VerifyChain(chain, at)
	if err != nil {
		return nil, fmt.Errorf("resolving did:x509: %w", err)
	}
	err = d.match(chain)
	if err != nil {
		return nil, fmt.Errorf("resolving did:x509: %w", err)
	}
	return chain[0].PublicKey, nil
}

// match checks the fingerprint and the policies, given a chain that was verified.
func (d *DID) match(chain []*x509.Certificate) error {
	if len(d.fingerprint) == 0 || len(d.policies) == 0 {
		return errors.New("identifier is empty")
	}
	if !slices.ContainsFunc(chain[1:], func(c *x509.Certificate) bool {
		h := d.algorithm.New()
		h.Write(c.Raw)
		return bytes.Equal(h.Sum(nil), d.fingerprint)
	}) {
		return errors.New("no authority of the chain has the fingerprint")
	}
	for _, p := range d.policies {
		err := p.match(chain[0])
		if err != nil {
			return fmt.Errorf("policy %s: %w", p.name, err)
		}
	}
	return nil
}

func (p *leafPolicy) match(leaf *x509.Certificate) error {
	switch p.name {
	case "subject":
		return matchSubject(leaf, p.args)
	case "san":
		return matchAltName(leaf, p.args[0], p.args[1])
	case "eku":
		return matchUsage(leaf, p.args[0])
	case "fulcio-issuer":
		e := extension(leaf, oidFulcioIssuer)
		want := "https://" + p.args[0]
		if e == nil || e.Critical || string(e.Value) != want {
			return fmt.Errorf("the leaf does not name %q as its Fulcio issuer", want)
		}
		return nil
	}
	return errors.New("it is not known")
}

func matchSubject(leaf *x509.Certificate, args []string) error {
	for i := 0; i+1 < len(args); i += 2 {
		var values []any
		for _, a := range leaf.Subject.Names {
			if a.Type.String() == args[i] {
				values = append(values, a.Value)
			}
		}
		if len(values) != 1 || values[0] != any(args[i+1]) {
			return fmt.Errorf("the leaf's subject has %q for attribute %s, expected %q once", values, args[i], args[i+1])
		}
	}
	return nil
}

// matchAltName reads the extension itself: the parsed form of a URI is not always its text.
func matchAltName(leaf *x509.Certificate, kind, want string) error {
	refused := fmt.Errorf("the leaf has no alternative name %s:%s", kind, want)
	e := extension(leaf, oidSubjectAltName)
	if e == nil {
		return refused
	}
	var names []asn1.RawValue
	rest, err := asn1.Unmarshal(e.Value, &names)
	if err != nil || len(rest) > 0 {
		return errors.New("the leaf's alternative names can not be read")
	}
	for _, n := range names {
		if n.Class == asn1.ClassContextSpecific && n.Tag == sanTags[kind] && string(n.Bytes) == want {
			return nil
		}
	}
	return refused
}

func matchUsage(leaf *x509.Certificate, want string) error {
	e := extension(leaf, oidExtKeyUsage)
	if e == nil {
		return errors.New("the leaf has no extended key usage")
	}
	var usages []asn1.ObjectIdentifier
	rest, err := asn1.Unmarshal(e.Value, &usages)
	if err != nil || len(rest) > 0 {
		return errors.New("the leaf's extended key usages can not be read")
	}
	if !slices.ContainsFunc(usages, func(o asn1.ObjectIdentifier) bool { return o.String() == want }) {
		return fmt.Errorf("the leaf has not the extended key usage %s", want)
	}
	return nil
}

// extension returns a certificate's extension; x509 refuses certificates that repeat one.
func extension(c *x509.Certificate, id asn1.ObjectIdentifier) *pkix.Extension {
	for i := range c.Extensions {
		if c.Extensions[i].Id.Equal(id) {
			return &c.Extensions[i]
		}
	}
	return nil
}

// Subject makes an identifier for a chain's leaf: the SHA-256 fingerprint of its last certificate, and the leaf's
// common name.
func Subject(chain []*x509.Certificate) (string, error) {
	if len(chain) < 2 {
		return "", fmt.Errorf("chain has %d certificates, want the leaf and its authorities", len(chain))
	}
	if chain[0].Subject.CommonName == "" {
		return "", errors.New("the leaf has no common name; name the signer by another did:x509")
	}
	sum := sha256.Sum256(chain[len(chain)-1].Raw)
	did := prefix + "sha256:" + base64.RawURLEncoding.EncodeToString(sum[:]) + "::subject:CN:" + encode(chain[0].Subject.CommonName)
	d, err := Parse(did)
	if err != nil {
		return "", err
	}
	return did, d.match(chain)
}
