// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"cofferdam.dev/collateral"
	"cofferdam.dev/internal/strictpem"
)

// THIMBaseURL is the metadata service of an Azure machine. It has no TLS: it is on the machine's own link.
const THIMBaseURL = "http://169.254.169.254"

// THIM is Azure's Trusted Hardware Identity Management as a confidential machine sees it: it has the chip certificate of
// the machine that it is asked from, under that machine's current TCB, with its chain, and nothing else.
type THIM struct {
	Fetcher
	// BaseURL is where it is; THIMBaseURL on Azure.
	BaseURL string
}

var _ collateral.Source = (*THIM)(nil)

// certification is the answer. Members that are not needed are ignored.
type certification struct {
	VCEK  string `json:"vcekCert"`
	Chain string `json:"certificateChain"`
}

// Get asks the service, and returns its answer if it is about the chip that was asked for.
func (t *THIM) Get(ctx context.Context, r collateral.Request) (collateral.Item, error) {
	if err := r.Validate(); err != nil {
		return collateral.Item{}, err
	}
	if r.Kind != collateral.AMDVCEK && (r.Kind != collateral.AMDChain || r.VLEK) {
		return collateral.Item{}, without("Azure's metadata service", r)
	}
	target := strings.TrimRight(t.BaseURL, "/") + "/metadata/THIM/amd/certification"
	a, err := t.get(ctx, target, http.Header{"Metadata": {"true"}})
	if err != nil {
		return collateral.Item{}, err
	}
	it, err := thimItem(r, a.body)
	if err != nil {
		return collateral.Item{}, fmt.Errorf("%s sent something else: %w: %w", a.url, collateral.ErrUnavailable, err)
	}
	return checked(a, r, it)
}

func thimItem(r collateral.Request, body []byte) (collateral.Item, error) {
	var c certification
	if err := json.Unmarshal(body, &c); err != nil {
		return collateral.Item{}, err
	}
	if r.Kind == collateral.AMDVCEK {
		der, err := strictpem.Certificate([]byte(c.VCEK))
		if err != nil {
			return collateral.Item{}, fmt.Errorf("vcekCert: %w", err)
		}
		return collateral.Item{Body: der}, matchChip(r, der)
	}
	return collateral.Item{Body: []byte(c.Chain)}, matchChain(r, []byte(c.Chain))
}
