// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence/snp"
)

// KDSBaseURL is AMD's key distribution service (AMD publication 57230). It answers about one request in ten seconds from
// one address: put package cache before it.
const KDSBaseURL = "https://kdsintf.amd.com"

// KDS is AMD's key distribution service, or one that speaks like it. It has chip certificates, chains and revocation
// lists.
type KDS struct {
	Fetcher
	// BaseURL is where it is; KDSBaseURL for AMD's own.
	BaseURL string
}

var _ collateral.Source = (*KDS)(nil)

// Get asks the service.
func (k *KDS) Get(ctx context.Context, r collateral.Request) (collateral.Item, error) {
	if err := r.Validate(); err != nil {
		return collateral.Item{}, err
	}
	path, err := kdsPath(r)
	if err != nil {
		return collateral.Item{}, err
	}
	a, err := k.get(ctx, strings.TrimRight(k.BaseURL, "/")+path, nil)
	if err != nil {
		return collateral.Item{}, err
	}
	it, err := checked(a, r, collateral.Item{Body: a.body})
	if err != nil {
		return it, err
	}
	switch r.Kind {
	case collateral.AMDVCEK:
		err = matchChip(r, it.Body)
	case collateral.AMDChain:
		err = matchChain(r, it.Body)
	}
	if err != nil {
		return collateral.Item{}, fmt.Errorf("%s sent something else: %w: %w", a.url, collateral.ErrUnavailable, err)
	}
	return it, nil
}

// kdsPath is the path of a request, with its query.
func kdsPath(r collateral.Request) (string, error) {
	kind := "vcek"
	if r.VLEK {
		kind = "vlek"
	}
	base := "/" + kind + "/v1/" + r.Product + "/"
	switch r.Kind {
	case collateral.AMDChain:
		return base + "cert_chain", nil
	case collateral.AMDCRL:
		return base + "crl", nil
	case collateral.AMDVCEK:
		line := snp.ProductLine(r.Product)
		tcb, err := snp.TCB(r.TCB).Parts(line)
		if err != nil {
			return "", err
		}
		query := fmt.Sprintf("?blSPL=%d&teeSPL=%d&snpSPL=%d&ucodeSPL=%d", tcb.Bootloader, tcb.TEE, tcb.SNP, tcb.Microcode)
		if line == snp.Turin {
			query += fmt.Sprintf("&fmcSPL=%d", tcb.FMC)
		}
		return base + hex.EncodeToString(r.ChipID) + query, nil
	}
	return "", without("AMD's key distribution service", r)
}

// matchChain requires a chain to begin with the intermediate that was asked for. Like a chip certificate it is kept for good
// under the name that it is stored by.
func matchChain(r collateral.Request, text []byte) error {
	block, _ := pem.Decode(text)
	if block == nil {
		return errors.New("the chain is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	want := "SEV-" + r.Product
	if r.VLEK {
		want = "SEV-VLEK-" + r.Product
	}
	if cert.Subject.CommonName != want {
		return fmt.Errorf("the chain begins with %q, not %q", cert.Subject.CommonName, want)
	}
	return nil
}

// matchChip requires a chip certificate to be the one that was asked for. Stored under another chip's name it would stay
// there for good.
func matchChip(r collateral.Request, der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	chip, err := snp.ParseChipCertificate(cert)
	if err != nil {
		return err
	}
	switch {
	case string(chip.Line) != r.Product:
		return fmt.Errorf("the certificate is of a chip of %s, not %s", chip.Line, r.Product)
	case chip.TCB != snp.TCB(r.TCB):
		return fmt.Errorf("the certificate is for TCB %s, not %x", chip.TCB, r.TCB)
	case !bytes.Equal(chip.HWID, r.ChipID):
		return errors.New("the certificate is of another chip")
	}
	return nil
}
