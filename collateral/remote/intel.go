// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"cofferdam.dev/collateral"
)

// Where Intel's collateral is.
const (
	// PCSBaseURL is Intel's provisioning certification service.
	PCSBaseURL = "https://api.trustedservices.intel.com"
	// IntelRootCRLURL is the revocation list of Intel's root, which the service does not have.
	IntelRootCRLURL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	// AzurePCCSBaseURL is Azure's public cache of the service (THIM). It may lag behind: Azure chooses its own baseline.
	AzurePCCSBaseURL = "https://global.acccache.azure.net"
)

// Update says which of several valid statements a server shall send.
type Update string

// The values of Intel's parameter "update". A new statement is early at first and becomes the standard one months later.
const (
	UpdateStandard Update = "standard"
	UpdateEarly    Update = "early"
)

// Intel is Intel's provisioning certification service (PCS), version 4 of its API, or a cache that speaks like it
// (PCCS). It has TCB information, QE identities and revocation lists.
type Intel struct {
	Fetcher
	// BaseURL is the server, without "/sgx/certification/v4".
	BaseURL string
	// RootCRLURL is where the revocation list of the root is. Empty means the path that a PCCS has it under.
	RootCRLURL string
	// Update chooses among statements when a request names no evaluation number. Empty leaves it to the server.
	Update Update
}

var _ collateral.Source = (*Intel)(nil)

// PCS returns Intel's own service.
func PCS(f Fetcher) *Intel {
	return &Intel{Fetcher: f, BaseURL: PCSBaseURL, RootCRLURL: IntelRootCRLURL, Update: UpdateStandard}
}

// PCCS returns a cache of Intel's service at a URL such as AzurePCCSBaseURL.
func PCCS(f Fetcher, base string) *Intel {
	return &Intel{Fetcher: f, BaseURL: base, Update: UpdateStandard}
}

// The headers in which issuer chains come. A cache of an older version prefixes the first.
const (
	headerTCBInfoChain  = "TCB-Info-Issuer-Chain"
	headerIdentityChain = "SGX-Enclave-Identity-Issuer-Chain"
	headerPCKCRLChain   = "SGX-PCK-CRL-Issuer-Chain"
)

// Get asks the service.
func (s *Intel) Get(ctx context.Context, r collateral.Request) (collateral.Item, error) {
	if err := r.Validate(); err != nil {
		return collateral.Item{}, err
	}
	target, chain, err := s.target(r)
	if err != nil {
		return collateral.Item{}, err
	}
	a, err := s.get(ctx, target, nil)
	if err != nil {
		return collateral.Item{}, err
	}
	it := collateral.Item{Body: a.body}
	if r.Kind == collateral.IntelPCKCRL || r.Kind == collateral.IntelRootCRL {
		it.Body = listBytes(a.body)
	}
	if chain != "" {
		it.IssuerChain, err = issuerChain(a.header, chain)
		if err != nil {
			return collateral.Item{}, fmt.Errorf("%s sent something else: %w: %w", a.url, collateral.ErrUnavailable, err)
		}
	}
	return checked(a, r, it)
}

// target is the URL of a request, and the header in which its issuer chain comes.
func (s *Intel) target(r collateral.Request) (target, header string, err error) {
	base := strings.TrimRight(s.BaseURL, "/")
	switch r.Kind {
	case collateral.IntelTCBInfo:
		query := s.choice(r)
		query.Set("fmspc", hex.EncodeToString(r.FMSPC[:]))
		return base + "/" + r.TEE + "/certification/v4/tcb?" + query.Encode(), headerTCBInfoChain, nil
	case collateral.IntelQEIdentity:
		target = base + "/" + r.TEE + "/certification/v4/qe/identity"
		if query := s.choice(r).Encode(); query != "" {
			target += "?" + query
		}
		return target, headerIdentityChain, nil
	case collateral.IntelPCKCRL:
		return base + "/sgx/certification/v4/pckcrl?ca=" + r.CA + "&encoding=der", headerPCKCRLChain, nil
	case collateral.IntelRootCRL:
		if s.RootCRLURL != "" {
			return s.RootCRLURL, "", nil
		}
		return base + "/sgx/certification/v4/rootcacrl", "", nil
	}
	return "", "", without("Intel's provisioning certification service", r)
}

// choice is the part of a query that chooses among statements. The service takes one of the two parameters only.
func (s *Intel) choice(r collateral.Request) url.Values {
	query := url.Values{}
	switch {
	case r.EvaluationNumber != 0:
		query.Set("tcbEvaluationDataNumber", strconv.Itoa(r.EvaluationNumber))
	case s.Update != "":
		query.Set("update", string(s.Update))
	}
	return query
}

// issuerChain decodes a header with percent-encoded PEM.
func issuerChain(h http.Header, name string) ([]byte, error) {
	text := h.Get(name)
	if text == "" && name == headerTCBInfoChain {
		text = h.Get("SGX-" + name)
	}
	if text == "" {
		return nil, fmt.Errorf("the answer has no header %s", name)
	}
	pem, err := url.PathUnescape(text)
	if err != nil {
		return nil, fmt.Errorf("decoding header %s: %w", name, err)
	}
	return []byte(pem), nil
}

// listBytes returns a revocation list in DER. Caches of Intel's service send it as hexadecimal text.
func listBytes(body []byte) []byte {
	der, err := hex.DecodeString(string(bytes.TrimSpace(body)))
	if err != nil {
		return body
	}
	return der
}
