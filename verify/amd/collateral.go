// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/verify/check"
)

// get asks the source, which may be absent.
func (a *appraisal) get(ctx context.Context, r collateral.Request) (collateral.Item, error) {
	if a.in.Collateral == nil {
		return collateral.Item{}, fmt.Errorf("there is no source of collateral: %w", collateral.ErrUnavailable)
	}
	return a.in.Collateral.Get(ctx, r)
}

// fetchVCEK gets the certificate of the chip and TCB that the report names. A report of version 2 does not name the
// product line; then the lines that made such reports are tried.
func (a *appraisal) fetchVCEK(ctx context.Context, r *snp.Report) *x509.Certificate {
	lines := []snp.ProductLine{snp.Milan, snp.Genoa}
	if line, err := r.CPUID.ProductLine(); r.Version >= 3 {
		if err != nil {
			return nil
		}
		lines = []snp.ProductLine{line}
	}
	for _, line := range lines {
		item, err := a.get(ctx, collateral.VCEK(string(line), r.ChipID[:], r.ReportedTCB))
		if err != nil {
			continue // the check of the certificate says that it is missing
		}
		cert, err := a.in.Cache.Certificate(item.Body)
		if err != nil {
			a.Fail(check.ChipCertificate, check.CodeCollateralMalformed, "a certificate in DER", err.Error())
			return nil
		}
		return cert
	}
	return nil
}

// fetchChain gets the intermediate of a kind of chip key. What comes with it besides is left alone: roots are configured.
func (a *appraisal) fetchChain(ctx context.Context, chip *snp.ChipCertificate) []*x509.Certificate {
	item, err := a.get(ctx, collateral.Chain(string(chip.Line), chip.Key == snp.SigningKeyVLEK))
	if err != nil {
		return nil // the check of the trust anchor says that it is missing
	}
	block, _ := pem.Decode(item.Body)
	if block == nil {
		a.Fail(check.TrustAnchor, check.CodeCollateralMalformed, "an intermediate in PEM", "none")
		return nil
	}
	cert, err := a.in.Cache.Certificate(block.Bytes)
	if err != nil {
		a.Fail(check.TrustAnchor, check.CodeCollateralMalformed, "an intermediate in PEM", err.Error())
		return nil
	}
	return []*x509.Certificate{cert}
}

// revocation holds intermediate and root against the root's list of revoked certificates. Chip certificates all have the
// serial number 0: no list can name them.
func (a *appraisal) revocation(ctx context.Context, c *chain) {
	if c.chip == nil {
		return // reported already
	}
	list, err := a.revocationList(ctx, c)
	if err != nil {
		a.unlisted(err)
		return
	}
	if n := slices.IndexFunc([]*x509.Certificate{c.intermediate, c.root.Certificate}, func(cert *x509.Certificate) bool {
		return lists(list, cert.SerialNumber)
	}); n >= 0 {
		a.Fail(check.Revocation, check.CodeCertificateRevoked, "no certificate of the chain is listed",
			[]*x509.Certificate{c.intermediate, c.root.Certificate}[n].Subject.String())
		return
	}
	expected := fmt.Sprintf("a list of %s to %s", check.Stamp(list.ThisUpdate), check.Stamp(list.NextUpdate))
	stale, code := false, check.CodeOK
	switch {
	case a.in.Now.Before(list.ThisUpdate):
		stale, code = true, check.CodeCollateralNotYet
	case a.in.Now.After(list.NextUpdate):
		stale, code = true, check.CodeCollateralExpired
	}
	switch {
	case stale && a.p.RequireRevocation:
		a.narrow(list.ThisUpdate, list.NextUpdate)
		a.Undecided(check.Revocation, code, expected, check.Stamp(a.in.Now))
	case stale:
		a.Pass(check.Revocation, "a current list is not required", "an outdated list, which names none of the chain")
	default:
		a.narrow(list.ThisUpdate, list.NextUpdate)
		a.Pass(check.Revocation, expected, "none of the chain is listed")
	}
}

func lists(list *x509.RevocationList, serial *big.Int) bool {
	return slices.ContainsFunc(list.RevokedCertificateEntries, func(e x509.RevocationListEntry) bool {
		return e.SerialNumber.Cmp(serial) == 0
	})
}

// unlisted records that there is no list to go by. That is open when one is required, and wrong when what is there is not
// what it claims to be.
func (a *appraisal) unlisted(err error) {
	var bad *badList
	expected := "a list of revoked certificates"
	switch {
	case errors.As(err, &bad):
		a.Fail(check.Revocation, bad.code, expected, bad.Error())
	case a.p.RequireRevocation:
		a.Undecided(check.Revocation, check.CodeCollateralMissing, expected, err.Error())
	default:
		a.Pass(check.Revocation, expected+" is not required", "not at hand")
	}
}

// badList is a list that must not be used.
type badList struct {
	code check.Code
	err  error
}

func (b *badList) Error() string { return b.err.Error() }

// revocationList gets the root's list and verifies it. A list of another issuer is no list of this root: sources may be
// asked for a simulated root and know AMD's alone.
func (a *appraisal) revocationList(ctx context.Context, c *chain) (*x509.RevocationList, error) {
	item, err := a.get(ctx, collateral.CRL(string(c.chip.Line), c.chip.Key == snp.SigningKeyVLEK))
	if err != nil {
		return nil, err
	}
	list, err := a.in.Cache.RevocationList(item.Body)
	if err != nil {
		return nil, &badList{check.CodeCollateralMalformed, err}
	}
	root := c.root.Certificate
	if string(list.RawIssuer) != string(root.RawSubject) {
		return nil, fmt.Errorf("the list is of %s, not of %s", list.Issuer, root.Subject)
	}
	if len(list.Raw) != len(item.Body) { // the parser does not look
		return nil, &badList{check.CodeCollateralMalformed, fmt.Errorf("%d bytes follow the list", len(item.Body)-len(list.Raw))}
	}
	if err := wellFormed(list); err != nil {
		return nil, &badList{check.CodeCollateralMalformed, err}
	}
	if root.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return nil, &badList{check.CodeCollateralSigner, fmt.Errorf("%s may not sign lists", root.Subject)}
	}
	if err := a.in.Cache.SignedList(root, list); err != nil {
		return nil, &badList{check.CodeCollateralSignature, err}
	}
	return list, nil
}

// wellFormed refuses lists that are no complete list of one issuer: RFC 5280, sections 5.2.4 and 5.2.5, marks delta lists
// and partitions by critical extensions.
func wellFormed(list *x509.RevocationList) error {
	for _, e := range list.Extensions {
		if e.Critical || e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 27}) {
			return fmt.Errorf("list has the extension %s, which only a part of a list has", e.Id)
		}
	}
	if list.NextUpdate.IsZero() || !list.NextUpdate.After(list.ThisUpdate) {
		return fmt.Errorf("list is of %s to %s", check.Stamp(list.ThisUpdate), check.Stamp(list.NextUpdate))
	}
	return nil
}

// narrow bounds the window in which the verdict stays the same.
func (a *appraisal) narrow(from, until time.Time) {
	if a.res.From.IsZero() || from.After(a.res.From) {
		a.res.From = from.UTC()
	}
	if a.res.Until.IsZero() || until.Before(a.res.Until) {
		a.res.Until = until.UTC()
	}
}
