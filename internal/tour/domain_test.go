// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"fmt"
	"strings"
	"testing"

	"cofferdam.dev/internal/devdomain"
	"cofferdam.dev/internal/vault/releasepolicy"
)

// The key is for one policy in one measured machine: a guest of the host's own, which enforces nothing, gets nothing by
// naming the policy's hash.
func TestPolicyOfTheKey(t *testing.T) {
	t.Parallel()
	const issuer = "https://attest.test/simulated"
	o := &owner{doc: devdomain.Document{Attestation: devdomain.AttestationDocument{SimulatedIssuer: issuer}}}
	text, err := o.policy([32]byte{1}, [48]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	p, err := releasepolicy.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	hash, digest := "01"+strings.Repeat("00", 31), "02"+strings.Repeat("00", 47)
	for name, c := range map[string]struct {
		issuer, hash, digest, debug string
		want                        bool
	}{
		"the group":           {issuer, hash, digest, "false", true},
		"another policy":      {issuer, strings.Repeat("00", 32), digest, "false", false},
		"another guest":       {issuer, hash, strings.Repeat("00", 48), "false", false},
		"a guest with a hole": {issuer, hash, digest, "true", false},
		"another service":     {"https://attest.test", hash, digest, "false", false},
	} {
		claims, err := releasepolicy.ParseClaims(fmt.Appendf(nil,
			`{"x-ms-sevsnpvm-hostdata": %q, "x-ms-sevsnpvm-launchmeasurement": %q, "x-ms-sevsnpvm-is-debuggable": %s}`, c.hash, c.digest, c.debug))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Evaluate(c.issuer, claims).Satisfied; got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
