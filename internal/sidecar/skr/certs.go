// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/collateral/remote"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/release"
)

// How servers of certificates are asked.
const (
	certTimeout = 20 * time.Second
	maxCertBody = 64 << 10
	maxChain    = 4
)

// OpenCerts returns the source of certificates that a configuration names; without one, the metadata service of the
// machine. External makes connections to the Internet, and local those to the machine's link.
func OpenCerts(c *CertCache, external, local *http.Client) (CertSource, error) {
	switch c.EndpointType {
	case "":
		return &collateralCerts{source: &remote.THIM{Fetcher: remote.Fetcher{HTTP: local}, BaseURL: remote.THIMBaseURL}}, nil
	case CertLocalTHIM:
		base, err := thimBase(c.Endpoint)
		if err != nil {
			return nil, err
		}
		return &collateralCerts{source: &remote.THIM{Fetcher: remote.Fetcher{HTTP: local}, BaseURL: base}}, nil
	case CertAMD:
		// The endpoint has the beginning of the path, which the source adds itself.
		endpoint := strings.TrimSuffix(strings.TrimRight(c.Endpoint, "/"), "/vcek/v1")
		u, err := release.ParseEndpoint(endpoint)
		if err != nil {
			return nil, fmt.Errorf("certcache: %w", err)
		}
		return &collateralCerts{source: &remote.KDS{Fetcher: remote.Fetcher{HTTP: external}, BaseURL: u.String()}, product: c.TEEType}, nil
	case CertAzCache:
		u, err := release.ParseEndpoint(c.Endpoint)
		if err != nil {
			return nil, fmt.Errorf("certcache: %w", err)
		}
		return &azCache{base: u.String(), config: *c, client: external}, nil
	}
	return nil, c.validate()
}

// thimBase reads the endpoint of a metadata service: nothing, a host on the machine's link, or a URL, with the path or not.
func thimBase(endpoint string) (string, error) {
	const path = "/metadata/THIM/amd/certification"
	if endpoint == "" {
		return remote.THIMBaseURL, nil
	}
	if !strings.Contains(endpoint, "://") {
		endpoint = "http://" + endpoint
	}
	u, err := url.Parse(strings.TrimSuffix(strings.TrimRight(endpoint, "/"), path))
	if err != nil || u.Host == "" || u.Path != "" || u.RawQuery != "" {
		return "", errors.New("certcache: endpoint of LocalTHIM is no host")
	}
	return u.String(), nil
}

// collateralCerts gets certificates from a source of collateral.
type collateralCerts struct {
	source collateral.Source
	// product is the product line of chips whose reports do not name it.
	product string
}

// Certificates asks for the chip's certificate and for the chain of its product line.
func (c *collateralCerts) Certificates(ctx context.Context, r *snp.Report) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, certTimeout)
	defer cancel()
	product := c.product
	if line, err := r.CPUID.ProductLine(); err == nil {
		product = string(line)
	}
	if product == "" {
		product = string(snp.Milan) // reports that name no processor are older than its successors
	}
	chip, err := c.source.Get(ctx, collateral.VCEK(product, r.ChipID[:], r.ReportedTCB))
	if err != nil {
		return nil, err
	}
	chain, err := c.source.Get(ctx, collateral.Chain(product, false))
	if err != nil {
		return nil, err
	}
	issuers, err := fromPEM(chain.Body)
	if err != nil {
		return nil, err
	}
	return append([][]byte{chip.Body}, issuers...), nil
}

// azCache is Azure's cache of AMD's certificates, which has whole chains.
type azCache struct {
	base   string
	config CertCache
	client *http.Client
}

// Certificates asks the cache.
func (a *azCache) Certificates(ctx context.Context, r *snp.Report) ([][]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, certTimeout)
	defer cancel()
	// The TCB is a number there, without leading zeros.
	tcb := strconv.FormatUint(binary.LittleEndian.Uint64(r.ReportedTCB[:]), 16)
	query, err := url.ParseQuery(a.config.APIVersion)
	if err != nil {
		return nil, errors.New("certcache: api_version is no query")
	}
	if a.config.ClientID != "" {
		query.Set("clientId", a.config.ClientID)
	}
	target := fmt.Sprintf("%s/%s/certificates/%s/%s?%s", a.base, url.PathEscape(a.config.TEEType), hex.EncodeToString(r.ChipID[:]), tcb, query.Encode())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil) //nolint:gosec // the server is the one of the configuration
	if err != nil {
		return nil, err
	}
	resp, err := a.client.Do(req) //nolint:gosec // as above
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read from only
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxCertBody+1))
	switch {
	case err != nil:
		return nil, err
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("%s answered %d", req.URL.Host, resp.StatusCode)
	case len(body) > maxCertBody:
		return nil, fmt.Errorf("%s sent more than %d bytes", req.URL.Host, maxCertBody)
	}
	list, err := fromPEM(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	return release.LeafFirst(list), nil
}

// fromPEM reads certificates in PEM.
func fromPEM(b []byte) ([][]byte, error) {
	var list [][]byte
	for len(strings.TrimSpace(string(b))) > 0 {
		block, rest := pem.Decode(b)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, errors.New("there is something else than certificates in PEM")
		}
		if len(list) == maxChain {
			return nil, fmt.Errorf("there are more than %d certificates", maxChain)
		}
		list, b = append(list, block.Bytes), rest
	}
	if len(list) == 0 {
		return nil, errors.New("there is no certificate")
	}
	return list, nil
}
