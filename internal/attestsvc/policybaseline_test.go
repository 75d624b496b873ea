// SPDX-License-Identifier: Apache-2.0

package attestsvc

import (
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/anchor"
	rules "cofferdam.dev/verify/appraisal"
	"cofferdam.dev/verify/check"
)

// baselineText is a policy for the test's machine; more is added to it.
func baselineText(t *testing.T, more string) string {
	t.Helper()
	return fmt.Sprintf(`schema: cofferdam.dev/appraisal-policy/v1
evidence: [sev-snp]
domains: [simulated]
allowSimulated: true
simulatedRoots: [%s]
%s`, anchor.SPKI(theWorld(t).root.Certificate), more)
}

const anyFirmware = "snp:\n  tcb:\n    Milan: {reported: {}}\n"

// TestPolicyBaseline has an appraisal policy take the place of the default baseline.
func TestPolicyBaseline(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	measured, hostData := hex.EncodeToString(w.measured[:]), hex.EncodeToString(w.hostData[:])
	rule := func(condition string) string {
		return anyFirmware + "rules:\n  modules:\n    - |\n      package appraisal\n      deny contains {\"code\": \"OURS\", \"message\": \"not ours\"} if " + condition + "\n"
	}
	for name, c := range map[string]struct {
		more  string
		codes []check.Code // none accepts
	}{
		"measurements are left to tenants": {more: anyFirmware},
		"listed measurement":               {more: anyFirmware + "  measurements: [" + measured + "]\n"},
		"another measurement":              {more: anyFirmware + "  measurements: [" + strings.Repeat("ab", 48) + "]\n", codes: []check.Code{check.CodeMeasurement}},
		"listed host data":                 {more: anyFirmware + "hostData: {policyHashes: [" + hostData + "]}\n"},
		"other host data":                  {more: anyFirmware + "hostData: {policyHashes: [" + strings.Repeat("ab", 32) + "]}\n", codes: []check.Code{check.CodeHostData}},
		"no floor for the line":            {more: "snp:\n  tcb:\n    Genoa: {reported: {}}\n", codes: []check.Code{"TCB_FLOOR_MISSING"}},
		"rule that denies":                 {more: rule("input.report.vmpl == 0"), codes: []check.Code{"RULE_OURS"}},
		"rule that does not":               {more: rule("input.report.vmpl == 3")},
		"binding is the service's":         {more: anyFirmware + "binding: {source: workload, minimumNonceSize: 64}\n", codes: nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := rules.Parse([]byte(baselineText(t, c.more)))
			if err != nil {
				t.Fatal(err)
			}
			b, err := PolicyBaseline(p, []anchor.Root{w.root})
			if err != nil {
				t.Fatal(err)
			}
			s := newService(t, func(o *Options) { o.Baseline = b })
			r := w.evidence(t, runtimeJSON)
			_, err = s.Attest(t.Context(), DefaultTenant, r)
			var refused *RefusedError
			if len(c.codes) == 0 {
				if err != nil {
					t.Fatal(err)
				}
				r.Runtime.Bytes = []byte(`{"other":1}`) // the service's own binding holds
				if _, err = s.Attest(t.Context(), DefaultTenant, r); !errors.As(err, &refused) || !slices.Contains(refused.Verdict.Codes, string(check.CodeRuntimeData)) {
					t.Errorf("bound to other data: %v", err)
				}
				return
			}
			if !errors.As(err, &refused) || refused.Verdict.Outcome != verify.Refused {
				t.Fatalf("%v", err)
			}
			for _, code := range c.codes {
				if !slices.Contains(refused.Verdict.Codes, string(code)) {
					t.Errorf("codes %q lack %q", refused.Verdict.Codes, code)
				}
			}
		})
	}
}

// TestPolicyBaselineTypes refuses types that the policy does not accept, and roots that nobody gave.
func TestPolicyBaselineTypes(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	p, err := rules.Parse([]byte(baselineText(t, anyFirmware)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := PolicyBaseline(p, nil); err == nil {
		t.Error("a simulated root is listed and not given")
	}
	b, err := PolicyBaseline(p, []anchor.Root{w.root})
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, func(o *Options) { o.Baseline = b })
	r := w.evidence(t, runtimeJSON)
	for _, k := range []Kind{TdxVM, SgxEnclave, OpenEnclave, AzureGuest} {
		r.Kind = k
		var refused *RefusedError
		if _, err := s.Attest(t.Context(), DefaultTenant, r); !errors.As(err, &refused) {
			t.Errorf("%s: %v", k, err)
		} else if k != OpenEnclave && !slices.Contains(refused.Verdict.Codes, string(check.CodeEvidenceType)) {
			t.Errorf("%s: %q", k, refused.Verdict.Codes)
		}
	}
}

// TestPolicyBaselineAzure has a policy admit a real confidential VM with a paravisor, by its registers, and no other.
func TestPolicyBaselineAzure(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(testcap.Vectors(t, "azure-vtpm/snp/a1-3/evidence-v1.json"))
	if err != nil {
		t.Fatal(err)
	}
	e, err := hcl.ParseEvidence(raw)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	text := fmt.Sprintf("schema: cofferdam.dev/appraisal-policy/v1\nevidence: [azure-vtpm]\ndomains: [amd]\nsnp:\n  tcb:\n    Milan: {reported: {}}\n"+
		"azure:\n  measurements: [\"%x\"]\n  pcrs:\n    4: [\"%x\"]\n    7: [\"%x\"]\n", e.Report[32+0x90:32+0x90+48], e.Quote.PCRs[4], e.Quote.PCRs[7])
	for name, c := range map[string]struct {
		from, to string
		code     check.Code
	}{
		"this one":          {},
		"another register":  {"    7: [\"", "    7: [\"" + strings.Repeat("00", 32) + "\"]\n    0: [\"", check.CodePCR},
		"another paravisor": {"measurements: [\"", "measurements: [\"" + strings.Repeat("00", 48) + "\"]\n  allowInsecureBoot: true\n  #", check.CodeMeasurement},
	} {
		p, err := rules.Parse([]byte(strings.Replace(text, c.from, c.to, 1)))
		if err != nil {
			t.Fatal(err)
		}
		b, err := PolicyBaseline(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		s := newService(t, func(o *Options) { o.Baseline, o.Now = b, func() time.Time { return now } })
		a, err := s.Attest(t.Context(), DefaultTenant, &Request{Kind: AzureGuest, Report: raw})
		var refused *RefusedError
		switch {
		case c.code == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case c.code == "":
			if got := body(t, a.Token); got["x-ms-attestation-type"] != "azurevm" || got["x-ms-isolation-tee"] == nil {
				t.Errorf("%v", got)
			}
		case !errors.As(err, &refused) || !slices.Contains(refused.Verdict.Codes, string(c.code)):
			t.Errorf("%s: %v", name, err)
		}
	}
}
