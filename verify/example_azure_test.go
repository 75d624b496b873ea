// SPDX-License-Identifier: Apache-2.0

package verify_test

import (
	"context"
	"crypto/sha256"
	"os"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/receipt"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/amd"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/azure"
	"cofferdam.dev/verify/uvm"
)

// appraiseGroup judges the evidence of an Azure container group.
func appraiseGroup(ctx context.Context, document, policy, nonce, ledgerKeys []byte) (*verify.Verdict, error) {
	doc, err := evidence.ParseDocument(document)
	if err != nil {
		return nil, err
	}
	keys, err := receipt.ParseKeys(ledgerKeys)
	if err != nil {
		return nil, err
	}
	publisher := uvm.AzureContainerPlat(104) // the lowest version that you trust
	publisher.RequireReceipt = true          // endorsements from 2025-12 on have receipts
	publisher.Ledgers = map[string]receipt.KeySet{"esrp-cts-db.confidential-ledger.azure.com": keys}
	return verify.Appraise(ctx, doc, verify.Options{
		Roots:    anchor.AMDRoots(),
		Now:      time.Now(),
		UVM:      publisher,
		HostData: [][32]byte{sha256.Sum256(policy)},
		Source:   evidence.SourceWorkload,
		Nonce:    nonce,
		SNP:      amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()},
	}), nil
}

// appraiseVM judges the evidence of an Azure confidential VM.
func appraiseVM(ctx context.Context, text, challenge []byte, paravisor [48]byte, pcr4, pcr7 [32]byte) *verify.Verdict {
	doc := &evidence.Document{Type: evidence.TypeAzureVTPM, Report: text}
	return verify.Appraise(ctx, doc, verify.Options{
		Roots:      anchor.AMDRoots(),
		Now:        time.Now(),
		ReportData: [][]byte{challenge},
		SNP:        amd.Policy{MinimumTCB: amd.DefaultMinimumTCB()},
		Azure: azure.Policy{
			Measurements: [][]byte{paravisor[:]},
			PCRs:         map[int][][32]byte{4: {pcr4}, 7: {pcr7}},
		},
	})
}

// TestHowTo holds the page for verifying Azure's guests to the functions above, which compile.
func TestHowTo(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("example_azure_test.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile("../docs/how-to/verify-azure.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```go\n")
	if len(blocks) != 3 {
		t.Fatalf("the page has %d blocks of Go, not 2", len(blocks)-1)
	}
	for i, b := range blocks[1:] {
		code, _, ok := strings.Cut(b, "```")
		if !ok || !strings.Contains(string(source), code) {
			t.Errorf("block %d of the page is not in this file:\n%s", i, code)
		}
	}
	if v, err := appraiseGroup(t.Context(), nil, nil, nil, nil); v != nil || err == nil {
		t.Errorf("no document: %v, %v", v, err)
	}
	if v := appraiseVM(t.Context(), []byte("{}"), []byte("challenge"), [48]byte{}, [32]byte{}, [32]byte{}); v.Accepted() {
		t.Error("nothing was accepted")
	}
}
