// SPDX-License-Identifier: Apache-2.0

package uvm

import "cofferdam.dev/evidence/receipt"

// Policy says which endorsements count. The zero value admits none.
type Policy struct {
	// Issuers are the publishers that are trusted, each by its whole did:x509. Empty refuses.
	Issuers []string
	// Feed is the series that the endorsement must belong to. Empty refuses.
	Feed string
	// MinimumSVN is the lowest security version that is trusted. Zero refuses: publishers count from one.
	MinimumSVN uint64
	// RequireReceipt asks for a receipt of one of the Ledgers.
	RequireReceipt bool
	// Ledgers has the keys of the ledgers that are trusted, by the name that a ledger's receipts state.
	Ledgers map[string]receipt.KeySet
}

// IsZero tells whether nothing is set, so that no endorsement is to be looked at.
func (p *Policy) IsZero() bool {
	return len(p.Issuers) == 0 && p.Feed == "" && p.MinimumSVN == 0 && !p.RequireReceipt && len(p.Ledgers) == 0
}

// AzureContainerPlat returns a policy for the utility VMs of confidential containers on Azure: Microsoft's identifier and
// the series in which it has published them since 2023. It is for those who decide to trust Microsoft as the publisher;
// nothing uses it by default. The lowest security version is the caller's decision.
func AzureContainerPlat(minimumSVN uint64) Policy {
	return Policy{
		Issuers: []string{
			"did:x509:0:sha256:I__iuL25oXEVFdTP_aBLx_eT1RPHbCQ_ECBQfYZpt9s::eku:1.3.6.1.4.1.311.76.59.1.2",
		},
		Feed:       "ContainerPlat-AMD-UVM",
		MinimumSVN: minimumSVN,
	}
}
