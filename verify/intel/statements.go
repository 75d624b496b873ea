// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/evidence/pcs"
	"cofferdam.dev/verify/check"
)

// statements is Intel's collateral as far as it is at hand and signed as it should be. What is out of date is kept, too:
// then the verdict is left open, but says what it would be.
type statements struct {
	rootCRL, pckCRL *x509.RevocationList
	info            *pcs.TCBInfo
	qe              *pcs.QEIdentity
	// signers are the certificates of the keys that signed info and qe.
	signers []*x509.Certificate
	// stale is true when one of the documents says nothing about the time of appraisal.
	stale bool
}

// statements fetches and verifies the collateral of the machine. Without a root that vouches for the machine, nothing is
// asked for: a stranger's quote must not make the verifier fetch what it names.
func (a *appraisal) statements(ctx context.Context, c *chain) *statements {
	s := &statements{}
	if !c.linked() {
		for _, name := range []check.Name{check.RootCRL, check.PCKCRL, check.TCBInfo, check.QEIdentity} {
			a.Undecided(name, check.CodeCollateralMissing, "collateral of a machine that a root vouches for", "not asked for")
		}
		return s
	}
	tee := collateral.SGX
	if a.res.Quote.TD != nil {
		tee = collateral.TDX
	}
	s.rootCRL = a.list(ctx, check.RootCRL, collateral.RootCRL(), c.root.Certificate)
	s.pckCRL = a.list(ctx, check.PCKCRL, collateral.PCKCRL(c.ca()), c.intermediate)
	var request collateral.Request
	if a.res.PCK != nil {
		request = collateral.TCBInfo(tee, a.res.PCK.FMSPC)
	}
	s.info = document(ctx, a, c, s, check.TCBInfo, request, pcs.ParseTCBInfo, func(d *pcs.TCBInfo) *pcs.Signed { return &d.Signed })
	s.qe = document(ctx, a, c, s, check.QEIdentity, collateral.QEIdentity(tee), parseIdentity,
		func(d *pcs.QEIdentity) *pcs.Signed { return &d.Signed })
	return s
}

// parseIdentity refuses identities of version 1, which have no TCB levels and no evaluation number.
func parseIdentity(b []byte) (*pcs.QEIdentity, error) {
	d, err := pcs.ParseQEIdentity(b)
	if err == nil && d.Version < 2 {
		return nil, fmt.Errorf("QE identity is of version %d, not 2", d.Version)
	}
	return d, err
}

// fetch asks the source. An error of any kind means that the item is not at hand.
func (a *appraisal) fetch(ctx context.Context, name check.Name, r collateral.Request) (collateral.Item, bool) {
	err := r.Validate()
	if err == nil && a.in.Collateral == nil {
		err = errors.New("there is no source of collateral")
	}
	var item collateral.Item
	if err == nil {
		item, err = a.in.Collateral.Get(ctx, r)
	}
	if err != nil {
		a.Undecided(name, check.CodeCollateralMissing, r.Name(), err.Error())
		return item, false
	}
	if len(item.Body) > collateral.MaxBodySize || len(item.IssuerChain) > collateral.MaxIssuerChainSize {
		a.Fail(name, check.CodeCollateralMalformed,
			fmt.Sprintf("at most %d bytes, %d of issuer chain", collateral.MaxBodySize, collateral.MaxIssuerChainSize),
			fmt.Sprintf("%d bytes, %d of issuer chain", len(item.Body), len(item.IssuerChain)))
		return item, false
	}
	return item, true
}

// list fetches and verifies a list of revoked certificates.
func (a *appraisal) list(ctx context.Context, name check.Name, r collateral.Request, issuer *x509.Certificate) *x509.RevocationList {
	item, ok := a.fetch(ctx, name, r)
	if !ok {
		return nil
	}
	facts := a.in.Cache.facts()
	list, err := facts.RevocationList(item.Body)
	if err == nil {
		err = plainList(list, item.Body)
	}
	if err != nil {
		a.Fail(name, check.CodeCollateralMalformed, "a complete list in DER", err.Error())
		return nil
	}
	expected := "signature by " + issuer.Subject.String()
	if !bytes.Equal(list.RawIssuer, issuer.RawSubject) {
		a.Fail(name, check.CodeCollateralSignature, expected, "list of "+list.Issuer.String())
		return nil
	}
	if issuer.KeyUsage&x509.KeyUsageCRLSign == 0 {
		a.Fail(name, check.CodeCollateralSigner, expected, issuer.Subject.String()+" may not sign lists")
		return nil
	}
	if err := facts.SignedList(issuer, list); err != nil {
		a.Fail(name, check.CodeCollateralSignature, expected, err.Error())
		return nil
	}
	a.current(name, list.ThisUpdate, list.NextUpdate)
	return list
}

// Extensions of lists, RFC 5280 sections 5.2.1 and 5.2.3.
var (
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidCRLNumber      = asn1.ObjectIdentifier{2, 5, 29, 20}
)

// plainList requires a list that is complete: other critical extensions would make it one of a part of the certificates,
// or of the changes since another list.
func plainList(list *x509.RevocationList, der []byte) error {
	if len(list.Raw) != len(der) {
		return fmt.Errorf("%d bytes follow the list", len(der)-len(list.Raw))
	}
	if list.NextUpdate.IsZero() {
		return errors.New("the list does not say when the next one is due")
	}
	for _, e := range list.Extensions {
		if e.Critical && !e.Id.Equal(oidAuthorityKeyID) && !e.Id.Equal(oidCRLNumber) {
			return fmt.Errorf("the list has the critical extension %v, which is unknown", e.Id)
		}
	}
	return nil
}

// document fetches and verifies one of Intel's signed documents.
func document[T any](ctx context.Context, a *appraisal, c *chain, s *statements, name check.Name, r collateral.Request,
	parse func([]byte) (*T, error), signed func(*T) *pcs.Signed,
) *T {
	item, ok := a.fetch(ctx, name, r)
	if !ok {
		return nil
	}
	if len(item.IssuerChain) == 0 {
		a.Undecided(name, check.CodeCollateralMissing, r.Name(), "it came without the chain of its signer")
		return nil
	}
	signer, err := a.signer(c, item.IssuerChain)
	if err != nil {
		a.Fail(name, check.CodeCollateralSigner, tcbSigningName+" under "+c.root.Name, err.Error())
		return nil
	}
	key := documentKey(string(name), signer, item.Body)
	known, _ := a.in.Cache.documents().Get(key)
	d, ok := known.(*T)
	if !ok {
		if d, err = parse(item.Body); err != nil {
			a.Fail(name, check.CodeCollateralMalformed, "a document of Intel's service", err.Error())
			return nil
		}
		pub, isECDSA := signer.PublicKey.(*ecdsa.PublicKey)
		if !isECDSA || !verifies(pub, signed(d).Body, signed(d).Signature) {
			a.Fail(name, check.CodeCollateralSignature, "signature by "+tcbSigningName, "the signature does not verify")
			return nil
		}
		a.in.Cache.documents().Put(key, d)
	}
	s.signers = append(s.signers, signer)
	from, until := signed(d).IssueDate, signed(d).NextUpdate
	if signer.NotBefore.After(from) {
		from = signer.NotBefore
	}
	if signer.NotAfter.Before(until) {
		until = signer.NotAfter
	}
	if !a.current(name, from, until) {
		s.stale = true
	}
	return d
}

// signer links the chain of a document's signer to the root of the machine's chain.
func (a *appraisal) signer(c *chain, text []byte) (*x509.Certificate, error) {
	ders, err := dcap.SplitChain(text)
	if err != nil {
		return nil, err
	}
	facts := a.in.Cache.facts()
	cert, err := facts.Certificate(ders[0])
	if err != nil {
		return nil, err
	}
	if err := endEntity(cert, tcbSigningName); err != nil {
		return nil, err
	}
	root := c.root.Certificate
	if len(ders) > 2 || len(ders) == 2 && !bytes.Equal(ders[1], root.Raw) {
		return nil, errors.New("the chain has other certificates than signer and root")
	}
	if err := signedBy(facts, root, cert); err != nil {
		return nil, err
	}
	facts.Keep(cert)
	return cert, nil
}

// current requires the time of appraisal to be within a statement's time.
func (a *appraisal) current(name check.Name, from, until time.Time) bool {
	a.within(from, until)
	expected := fmt.Sprintf("%s to %s", check.Stamp(from), check.Stamp(until))
	switch now := a.in.Now; {
	case now.Before(from):
		a.Undecided(name, check.CodeCollateralNotYet, expected, check.Stamp(now))
	case now.After(until):
		a.Undecided(name, check.CodeCollateralExpired, expected, check.Stamp(now))
	default:
		a.Pass(name, expected, check.Stamp(now))
		return true
	}
	return false
}

// revocation looks for the certificates of the chain, and those of the documents' signers, in the lists.
func (a *appraisal) revocation(c *chain, s *statements) {
	const expected = "no certificate on the lists"
	if s.rootCRL != nil {
		for _, cert := range append([]*x509.Certificate{c.intermediate}, s.signers...) {
			if revoked(s.rootCRL, cert) {
				a.Fail(check.Revocation, check.CodeCertificateRevoked, expected, fmt.Sprintf("%s, serial %x", cert.Subject, cert.SerialNumber))
				return
			}
		}
	}
	if s.pckCRL != nil && revoked(s.pckCRL, c.leaf) {
		a.Fail(check.Revocation, check.CodeCertificateRevoked, expected, fmt.Sprintf("%s, serial %x", c.leaf.Subject, c.leaf.SerialNumber))
		return
	}
	if s.rootCRL == nil || s.pckCRL == nil {
		a.Undecided(check.Revocation, check.CodeCollateralMissing, expected, "there is no list that could be used")
		return
	}
	a.Pass(check.Revocation, expected, fmt.Sprintf("%d and %d other certificates are",
		len(s.rootCRL.RevokedCertificateEntries), len(s.pckCRL.RevokedCertificateEntries)))
}

func revoked(list *x509.RevocationList, cert *x509.Certificate) bool {
	for i := range list.RevokedCertificateEntries {
		if list.RevokedCertificateEntries[i].SerialNumber.Cmp(cert.SerialNumber) == 0 {
			return true
		}
	}
	return false
}

// ages requires statements not to be older than is asked for, whatever they say of their next update.
func (a *appraisal) ages(s *statements) {
	limit := a.p.MaxCollateralAge
	if limit == 0 {
		a.Pass(check.CollateralAge, "any age that the statements themselves allow", "not limited")
		return
	}
	oldest := a.in.Now
	consider := func(t time.Time) {
		a.within(a.res.From, t.Add(limit))
		if t.Before(oldest) {
			oldest = t
		}
	}
	if s.info != nil {
		consider(s.info.IssueDate)
	}
	if s.qe != nil {
		consider(s.qe.IssueDate)
	}
	if s.pckCRL != nil {
		consider(s.pckCRL.ThisUpdate)
	}
	expected, actual := fmt.Sprintf("issued %s ago or later", limit), "the oldest was issued "+check.Stamp(oldest)
	if a.in.Now.Sub(oldest) > limit {
		a.Undecided(check.CollateralAge, check.CodeCollateralTooOld, expected, actual)
		return
	}
	a.Pass(check.CollateralAge, expected, actual)
}
