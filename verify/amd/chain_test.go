// SPDX-License-Identifier: Apache-2.0

package amd

import (
	"os"
	"testing"
	"time"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// TestTurinChain links a Turin certificate, for which no report is at hand, to its root.
func TestTurinChain(t *testing.T) {
	t.Parallel()
	der, err := os.ReadFile(testcap.Vectors(t, "snp/s10-virtee/vcek_turin.der"))
	if err != nil {
		t.Fatal(err)
	}
	in := &Input{Roots: anchor.AMDRoots(), Now: time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC), Certificates: [][]byte{der}}
	a := &appraisal{Record: &check.Record{}, in: in, p: &Policy{}, res: &Result{}}
	c := a.chain(t.Context(), &snp.Report{})
	if got := codes(a.Record); len(got) != 0 || c.root == nil || c.root.Name != "ARK-Turin" || a.res.Domain != anchor.AMD {
		t.Errorf("codes %v, root %v", got, c.root)
	}
}
