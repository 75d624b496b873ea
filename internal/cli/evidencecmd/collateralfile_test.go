// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"os"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/collateral"
	"cofferdam.dev/internal/testcap"
)

// TestQuoteCollateral reads the published files, and refuses what is none.
func TestQuoteCollateral(t *testing.T) {
	t.Parallel()
	for file, want := range map[string][]string{
		"tdx/t1-v4-b0c06f/collateral.json": {"intel/tcb-info/tdx/b0c06f000000", "intel/qe-identity/tdx", "intel/pck-crl/platform", "intel/root-crl"},
		"sgx/g1-v3-00a067/collateral.json": {"intel/tcb-info/sgx/00a067110000", "intel/qe-identity/sgx", "intel/pck-crl/processor", "intel/root-crl"},
	} {
		e, err := readCollateralFile(testcap.Vectors(t, file))
		if err != nil || len(e) != len(want) || slices.ContainsFunc(want, func(n string) bool { _, ok := e[n]; return !ok }) {
			t.Errorf("%s: %v, %v", file, e, err)
		}
	}
	good, err := os.ReadFile(testcap.Vectors(t, "tdx/t1-v4-b0c06f/collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"no JSON":         {"{", "[", "invalid character"},
		"unknown member":  {`"tcb_info":`, `"tcb":`, "unknown field"},
		"other TEE":       {`{\"id\":\"TDX\"`, `{\"id\":\"TDZ\"`, "tcb_info: it has the ID"},
		"short model":     {`\"fmspc\":\"B0`, `\"fmspc\":\"`, "tcb_info: it has the ID"},
		"no statement":    {`"tcb_info": "`, `"tcb_info": "x`, "tcb_info: "},
		"no issuer":       {`"pck_crl_issuer_chain": "-----BEGIN`, `"pck_crl_issuer_chain": "-----BEGAN`, "neither the Platform nor the Processor CA"},
		"no certificate":  {`"pck_crl_issuer_chain": "-----BEGIN CERTIFICATE-----\nMIIC`, `"pck_crl_issuer_chain": "-----BEGIN CERTIFICATE-----\nMIIA`, "pck_crl_issuer_chain"},
		"no hexadecimal":  {`"root_ca_crl": "30`, `"root_ca_crl": "3x`, "revocation lists"},
		"no list":         {`"root_ca_crl": "30`, `"root_ca_crl": "31`, "form of intel/root-crl"},
		"other statement": {`"qe_identity": "{\"id\":\"TD_QE\"`, `"qe_identity": "{\"id\":\"QE\"`, "form of intel/qe-identity/tdx"},
	} {
		text := strings.Replace(string(good), c.old, c.new, 1)
		if text == string(good) {
			t.Errorf("%s: %s is not in the file", name, c.old)
		}
		if _, err = parseQuoteCollateral([]byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

// FuzzQuoteCollateral looks for a file that panics, or that gives items which do not have the form of their names.
func FuzzQuoteCollateral(f *testing.F) {
	f.Add([]byte(`{"tcb_info":"{\"id\":\"TDX\",\"fmspc\":\"b0c06f000000\"}"}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseQuoteCollateral(b)
		if err != nil {
			return
		}
		for name, item := range e {
			r, err := collateral.ParseName(name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = collateral.Inspect(r, item); err != nil {
				t.Error(err)
			}
		}
	})
}
