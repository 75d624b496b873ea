// SPDX-License-Identifier: Apache-2.0

package remote_test

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/collateral/cache"
	"cofferdam.dev/collateral/remote"
	"cofferdam.dev/evidence"
	"cofferdam.dev/evidence/dcap"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/intel"
)

// pcs serves what Intel's service had for one machine, as that service does.
func pcs(t *testing.T, asked *atomic.Int32) *httptest.Server {
	t.Helper()
	b, err := os.ReadFile(testcap.Vectors(t, "tdx/t1-v4-b0c06f/collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	var p map[string]string
	if err := json.Unmarshal(b, &p); err != nil {
		t.Fatal(err)
	}
	answer := func(body []byte, header, chain string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			if header != "" {
				w.Header().Set(header, url.PathEscape(chain))
			}
			_, _ = w.Write(body) // the client sees what is missing
		}
	}
	unhex := func(s string) []byte {
		b, err := hex.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /tdx/certification/v4/tcb", answer(fmt.Appendf(nil, `{"tcbInfo":%s,"signature":"%s"}`, p["tcb_info"], p["tcb_info_signature"]),
		"TCB-Info-Issuer-Chain", p["tcb_info_issuer_chain"]))
	mux.HandleFunc("GET /tdx/certification/v4/qe/identity", answer(fmt.Appendf(nil, `{"enclaveIdentity":%s,"signature":"%s"}`, p["qe_identity"],
		p["qe_identity_signature"]), "SGX-Enclave-Identity-Issuer-Chain", p["qe_identity_issuer_chain"]))
	mux.HandleFunc("GET /sgx/certification/v4/pckcrl", answer(unhex(p["pck_crl"]), "SGX-PCK-CRL-Issuer-Chain", p["pck_crl_issuer_chain"]))
	mux.HandleFunc("GET /IntelSGXRootCA.der", answer(unhex(p["root_ca_crl"]), "", ""))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// TestVerifyQuote appraises a quote of a real machine that comes with nothing but its certificates.
func TestVerifyQuote(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := pcs(t, &asked)
	report, err := os.ReadFile(testcap.Vectors(t, "tdx/t1-v4-b0c06f/tdx_quote.bin"))
	if err != nil {
		t.Fatal(err)
	}
	q, err := dcap.ParseQuote(report)
	if err != nil {
		t.Fatal(err)
	}
	doc := &evidence.Document{Type: evidence.TypeTDX, Report: report}
	policy, data := intel.DefaultTDX(), q.ReportData()
	for i := range policy.RTMR {
		policy.RTMR[i].Any = true
	}
	policy.Owner.Any, policy.OwnerConfig.Any, policy.ServiceTD.Any = true, true, true
	at := time.Date(2025, 6, 21, 0, 0, 0, 0, time.UTC)
	opts := verify.Options{
		Roots: []anchor.Root{anchor.IntelRoot()}, Now: at, ReportData: [][]byte{data[:]}, Measurements: [][]byte{q.TD.MRTD[:]},
		HostData: [][32]byte{[32]byte(q.TD.MRConfigID[:])}, Intel: intel.Policy{TDX: &policy},
	}
	if v := verify.Appraise(t.Context(), doc, opts); v.Outcome != verify.Undecided {
		t.Fatalf("without collateral the outcome is %s", v.Outcome)
	}
	source := remote.PCS(remote.Fetcher{HTTP: server.Client()})
	source.BaseURL, source.RootCRLURL = server.URL, server.URL+"/IntelSGXRootCA.der"
	now := at
	kept, err := cache.Open(cache.Options{Dir: t.TempDir(), Source: source, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	rec := collateral.Record(kept)
	opts.Collateral = rec
	for range 2 {
		if v := verify.Appraise(t.Context(), doc, opts); v.Outcome != verify.Accepted {
			t.Fatalf("outcome is %s: %+v", v.Outcome, v.Checks)
		}
	}
	if asked.Load() != 4 || len(rec.Used()) != 4 {
		t.Errorf("the server was asked %d times, for %d items", asked.Load(), len(rec.Used()))
	}

	// What was used is enough, without the server.
	opts.Collateral = rec.Used()
	if v := verify.Appraise(t.Context(), doc, opts); v.Outcome != verify.Accepted {
		t.Errorf("with what was recorded the outcome is %s", v.Outcome)
	}

	// Past the next update the cache has nothing, and the server has nothing newer.
	now = time.Date(2025, 8, 1, 0, 0, 0, 0, time.UTC)
	opts.Now, opts.Collateral = now, kept
	if v := verify.Appraise(t.Context(), doc, opts); v.Outcome != verify.Undecided {
		t.Errorf("a month later the outcome is %s", v.Outcome)
	}
}
