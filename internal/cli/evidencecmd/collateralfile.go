// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/collateral"
	"cofferdam.dev/internal/cli/console"
)

// quoteCollateral is the collateral of one quote in one file, as tools around Intel's quotes write it: the statements
// apart from their signatures, everything else in hexadecimal or PEM.
type quoteCollateral struct {
	TCBInfo             string `json:"tcb_info"`
	TCBInfoSignature    string `json:"tcb_info_signature"`
	TCBInfoChain        string `json:"tcb_info_issuer_chain"`
	QEIdentity          string `json:"qe_identity"`
	QEIdentitySignature string `json:"qe_identity_signature"`
	QEIdentityChain     string `json:"qe_identity_issuer_chain"`
	PCKCRL              string `json:"pck_crl"`
	PCKCRLChain         string `json:"pck_crl_issuer_chain"`
	RootCRL             string `json:"root_ca_crl"`
}

// maxCollateralFile bounds such a file: four pieces, of which two are in hexadecimal.
const maxCollateralFile = 6 * collateral.MaxBodySize

// readCollateralFile puts each piece under the name by which it is asked for.
func readCollateralFile(name string) (collateral.Embedded, error) {
	b, err := console.ReadLimited(name, nil, maxCollateralFile)
	if err != nil {
		return nil, fmt.Errorf("reading collateral: %w", err)
	}
	e, err := parseQuoteCollateral(b)
	if err != nil {
		return nil, console.Fixed(fmt.Errorf("reading collateral: %s is not the JSON of a quote's collateral: %w", name, err), "--collateral with a directory that `cofferdam collateral fetch` wrote")
	}
	return e, nil
}

func parseQuoteCollateral(b []byte) (collateral.Embedded, error) {
	var q quoteCollateral
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&q); err != nil {
		return nil, err
	}
	var info struct {
		ID, FMSPC string
	}
	if err := json.Unmarshal([]byte(q.TCBInfo), &info); err != nil {
		return nil, fmt.Errorf("tcb_info: %w", err)
	}
	model, err := hex.DecodeString(info.FMSPC)
	tee := map[string]string{"SGX": collateral.SGX, "TDX": collateral.TDX}[info.ID]
	if err != nil || len(model) != 6 || tee == "" {
		return nil, fmt.Errorf("tcb_info: it has the ID %.20q and the FMSPC %.20q", info.ID, info.FMSPC)
	}
	ca, err := issuingCA(q.PCKCRLChain)
	if err != nil {
		return nil, err
	}
	pck, err1 := hex.DecodeString(q.PCKCRL)
	root, err2 := hex.DecodeString(q.RootCRL)
	if err = errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("revocation lists: %w", err)
	}
	signed := func(member, text, signature string) []byte { // byte for byte what was signed
		return fmt.Appendf(nil, `{"%s":%s,"signature":"%s"}`, member, text, signature)
	}
	e := collateral.Embedded{}
	for _, p := range []struct {
		r    collateral.Request
		item collateral.Item
	}{
		{collateral.TCBInfo(tee, [6]byte(model)), collateral.Item{Body: signed("tcbInfo", q.TCBInfo, q.TCBInfoSignature), IssuerChain: []byte(q.TCBInfoChain)}},
		{collateral.QEIdentity(tee), collateral.Item{Body: signed("enclaveIdentity", q.QEIdentity, q.QEIdentitySignature), IssuerChain: []byte(q.QEIdentityChain)}},
		{collateral.PCKCRL(ca), collateral.Item{Body: pck, IssuerChain: []byte(q.PCKCRLChain)}},
		{collateral.RootCRL(), collateral.Item{Body: root}},
	} {
		if _, err = collateral.Inspect(p.r, p.item); err != nil {
			return nil, err
		}
		e[p.r.Name()] = p.item
	}
	return e, nil
}

// issuingCA tells by its name which of Intel's authorities issued a revocation list.
func issuingCA(chain string) (string, error) {
	block, _ := pem.Decode([]byte(chain))
	if block == nil {
		return "", errors.New("pck_crl_issuer_chain: it is not PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "", fmt.Errorf("pck_crl_issuer_chain: %w", err)
	}
	switch name := cert.Subject.CommonName; {
	case strings.Contains(name, "Platform"):
		return collateral.PlatformCA, nil
	case strings.Contains(name, "Processor"):
		return collateral.ProcessorCA, nil
	default:
		return "", fmt.Errorf("pck_crl_issuer_chain: %.100q is neither the Platform nor the Processor CA", name)
	}
}
