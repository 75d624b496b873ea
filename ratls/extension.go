// SPDX-License-Identifier: Apache-2.0

// Package ratls is attested TLS: connections whose certificates carry evidence of what holds their key.
//
// An Identity makes a key and a self-signed certificate for it, in which evidence commits to the key. A Peers judges such
// certificates in place of a certificate authority: it asks package verify about the evidence, and requires that the
// evidence commits to the key of this very connection. Both ends may do both. The configurations are those of crypto/tls,
// so that they serve net/http, gRPC and everything else that speaks TLS.
//
// The evidence lies in the extension for tagged evidence of the TCG's DICE Attestation Architecture (OID 2.23.133.5.4.9),
// in the form that the interoperable RA-TLS specification of the Confidential Computing Consortium gives it: CBOR tag
// 60000 around an array of the evidence and a map of claims, in which "pubkey-hash" is the digest of the key. Evidence is
// a document of package evidence, or the bare DCAP quote of a program that speaks the same form.
//
// What a certificate proves is that its key was made where the evidence says, to be used no longer than the evidence says;
// the certificate ends by then, and lives for hours. Who must know that the peer lives now, asks it for evidence over the
// connection: see Challenge. The bare quotes of other programs do not say how long a key may be used: whoever steals such a
// key can make certificates for it as long as the quote's own certificates hold.
//
// The package trusts the verifier that it is given, and nothing in a certificate before that accepted it. It never falls
// back to ordinary certificates.
package ratls

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/cbor"
)

// oid is the extension for tagged evidence (TCG DICE Attestation Architecture 1.1, section 6.1.2).
var oid = asn1.ObjectIdentifier{2, 23, 133, 5, 4, 9}

const (
	// tagEvidence is the CBOR tag of evidence that is a quote or a document.
	tagEvidence = 60000
	// hashSHA256 is SHA-256 in the registry of named information hash algorithms (RFC 6920).
	hashSHA256 = 1
	// maxExtension bounds the extension in bytes: a document may carry a policy.
	maxExtension = 3 << 20

	claimKeyHash  = "pubkey-hash"
	claimNotAfter = "not-after"
	claimExporter = "tls-exporter"
)

// claimsOf returns the claims that evidence commits to: the digest of a key and the end of its certificate's life, or, after
// a challenge, the connection. Were the end not among them, whoever steals a key could make certificates for it for ever.
func claimsOf(spki []byte, until time.Time, exporter []byte) []byte {
	sum := sha256.Sum256(spki)
	hash := cbor.AppendArray(nil, 2)
	hash = cbor.AppendInt(hash, hashSHA256)
	hash = cbor.AppendBytes(hash, sum[:])
	entries := []cbor.Entry{{Key: cbor.AppendText(nil, claimKeyHash), Value: cbor.AppendBytes(nil, hash)}}
	if !until.IsZero() {
		entries = append(entries, cbor.Entry{Key: cbor.AppendText(nil, claimNotAfter), Value: cbor.AppendInt(nil, until.Unix())})
	}
	if exporter != nil {
		entries = append(entries, cbor.Entry{Key: cbor.AppendText(nil, claimExporter), Value: cbor.AppendBytes(nil, exporter)})
	}
	return cbor.AppendMap(nil, entries)
}

// checkClaims requires claims to commit to a key.
func checkClaims(claims, spki []byte) error {
	m, err := cbor.Decode(claims)
	if err != nil || m.Kind != cbor.Map {
		return fmt.Errorf("the claims are no CBOR map: %w", err)
	}
	field, ok := m.LookupText(claimKeyHash)
	if !ok || field.Kind != cbor.Bytes {
		return fmt.Errorf("the claims have no %s", claimKeyHash)
	}
	hash, err := cbor.Decode(field.Bytes)
	if err != nil || hash.Kind != cbor.Array || len(hash.Items) != 2 || hash.Items[0].Kind != cbor.Int || hash.Items[1].Kind != cbor.Bytes {
		return fmt.Errorf("%s is no pair of algorithm and digest", claimKeyHash)
	}
	if hash.Items[0].Int != hashSHA256 {
		return fmt.Errorf("%s has hash algorithm %d, not %d (SHA-256)", claimKeyHash, hash.Items[0].Int, hashSHA256)
	}
	sum := sha256.Sum256(spki)
	if subtle.ConstantTimeCompare(hash.Items[1].Bytes, sum[:]) != 1 {
		return fmt.Errorf("%s is %x, but the connection's key has %x: the evidence is for another key", claimKeyHash, hash.Items[1].Bytes, sum)
	}
	return nil
}

// checkLife requires claims to say until when the key may be used, and the certificate to end by then. Bare quotes of other
// programs do not say it.
func checkLife(claims []byte, cert *x509.Certificate, bare bool, latest time.Time) error {
	m, err := cbor.Decode(claims)
	if err != nil {
		return fmt.Errorf("the claims are no CBOR map: %w", err)
	}
	field, ok := m.LookupText(claimNotAfter)
	if !ok && bare {
		return nil
	}
	if !ok || field.Kind != cbor.Int {
		return fmt.Errorf("the claims have no %s, so that the key could be used for ever", claimNotAfter)
	}
	switch until := time.Unix(field.Int, 0); {
	case cert.NotAfter.After(until):
		return fmt.Errorf("the certificate is valid until %s, but the evidence is for a key until %s", stamp(cert.NotAfter), stamp(until))
	case until.After(latest):
		return fmt.Errorf("the evidence is for a key until %s, later than %s", stamp(until), stamp(latest))
	}
	return nil
}

// newExtension puts evidence and claims into an extension.
func newExtension(evidence, claims []byte) pkix.Extension {
	b := cbor.AppendTag(nil, tagEvidence)
	b = cbor.AppendArray(b, 2)
	b = cbor.AppendBytes(b, evidence)
	b = cbor.AppendBytes(b, claims)
	return pkix.Extension{Id: oid, Value: b}
}

// attested is what a certificate carries.
type attested struct {
	evidence, claims []byte
}

// ErrNoEvidence says that a certificate carries no evidence.
var ErrNoEvidence = errors.New("the certificate carries no evidence")

// parseExtension reads the evidence in a certificate.
func parseExtension(cert *x509.Certificate) (*attested, error) {
	var value []byte
	for _, e := range cert.Extensions {
		if !e.Id.Equal(oid) {
			continue
		}
		if value != nil {
			return nil, errors.New("the certificate carries evidence twice")
		}
		value = e.Value
	}
	if value == nil {
		return nil, ErrNoEvidence
	}
	if len(value) > maxExtension {
		return nil, fmt.Errorf("the evidence has %d bytes, more than %d", len(value), maxExtension)
	}
	it, err := cbor.Decode(value)
	if err != nil {
		return nil, fmt.Errorf("the evidence is no CBOR: %w", err)
	}
	if it.Kind != cbor.Tag || it.Tag != tagEvidence || len(it.Items) != 1 || it.Items[0].Kind != cbor.Array {
		return nil, fmt.Errorf("the evidence is no array under the tag %d", tagEvidence)
	}
	parts := it.Items[0].Items
	if len(parts) != 2 || parts[0].Kind != cbor.Bytes || parts[1].Kind != cbor.Bytes {
		return nil, errors.New("the evidence is no pair of evidence and claims")
	}
	return &attested{bytes.Clone(parts[0].Bytes), bytes.Clone(parts[1].Bytes)}, nil
}

// document returns the evidence as a document that commits to the claims. A bare quote becomes one: its report data are the
// SHA-256 of the claims and zeros, which the caller has to ask for.
func (a *attested) document() (doc *evidence.Document, bare bool, err error) {
	if len(a.evidence) > 0 && a.evidence[0] == '{' {
		doc, err = evidence.ParseDocument(a.evidence)
		if err == nil && !bytes.Equal(doc.RuntimeData, a.claims) {
			err = errors.New("the evidence commits to other claims than the certificate has")
		}
		return doc, false, err
	}
	typ, err := quoteType(a.evidence)
	if err != nil {
		return nil, false, err
	}
	return &evidence.Document{Type: typ, Report: a.evidence}, true, nil
}

// quoteType tells an SGX quote from one of a trust domain by the header's field "TEE type", a 32-bit number at offset 4.
func quoteType(quote []byte) (string, error) {
	const offset, sgx, tdx = 4, 0, 0x81
	if len(quote) < offset+4 {
		return "", errors.New("the evidence is neither a document nor a quote")
	}
	switch quote[offset] {
	case sgx:
		return evidence.TypeSGX, nil
	case tdx:
		return evidence.TypeTDX, nil
	}
	return "", errors.New("the evidence is neither a document nor a quote")
}
