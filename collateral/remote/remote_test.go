// SPDX-License-Identifier: Apache-2.0

package remote

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/testcollateral"
)

var (
	from  = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	until = time.Date(2026, 2, 1, 0, 0, 0, 0, time.UTC)

	milan = collateral.VCEK("Milan", bytes.Repeat([]byte{0xab}, 64), [8]byte{4, 1, 0, 0, 0, 0, 0x18, 0xdb})
	turin = collateral.VCEK("Turin", []byte{1, 2, 3, 4, 5, 6, 7, 8}, [8]byte{1, 2, 3, 4, 0, 0, 0, 82})
)

// double is a server that answers what a test wants, and says what it was asked.
type double struct {
	*httptest.Server

	mu    sync.Mutex
	asked []string
}

// questions returns the URLs that were asked for.
func (d *double) questions() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.asked)
}

func newDouble(t *testing.T, answer http.HandlerFunc) *double {
	t.Helper()
	d := &double{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.asked = append(d.asked, r.URL.RequestURI())
		d.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(d.Close)
	return d
}

// fetcher asks without pauses; it counts them instead.
func (d *double) fetcher(pauses *[]time.Duration) Fetcher {
	return Fetcher{
		HTTP: d.Client(), Now: func() time.Time { return from }, Jitter: func(max time.Duration) time.Duration { return max / 2 },
		Sleep: func(_ context.Context, p time.Duration) error {
			if pauses != nil {
				*pauses = append(*pauses, p)
			}
			return nil
		},
		Timeout: 1 << 62, // the clock above is not that of deadlines
	}
}

func numbered(r collateral.Request, n int) collateral.Request {
	r.EvaluationNumber = n
	return r
}

func TestURLs(t *testing.T) {
	t.Parallel()
	maker := testcollateral.New(t, from, until)
	fmspc := [6]byte{0xb0, 0xc0, 0x6f}
	kds := func(f Fetcher, base string) collateral.Source { return &KDS{f, base + "/"} }
	pccs := func(f Fetcher, base string) collateral.Source { return PCCS(f, base) }
	early := func(f Fetcher, base string) collateral.Source {
		return &Intel{Fetcher: f, BaseURL: base, Update: UpdateEarly}
	}
	pcs := func(f Fetcher, base string) collateral.Source {
		s := PCS(f)
		s.BaseURL, s.RootCRLURL = base, base+"/IntelSGXRootCA.der"
		return s
	}
	for _, c := range []struct {
		source func(Fetcher, string) collateral.Source
		r      collateral.Request
		want   string
	}{
		{kds, milan, "/vcek/v1/Milan/" + strings.Repeat("ab", 64) + "?blSPL=4&teeSPL=1&snpSPL=24&ucodeSPL=219"},
		{kds, turin, "/vcek/v1/Turin/0102030405060708?blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=82&fmcSPL=1"},
		{kds, collateral.Chain("Genoa", false), "/vcek/v1/Genoa/cert_chain"},
		{kds, collateral.Chain("Genoa", true), "/vlek/v1/Genoa/cert_chain"},
		{kds, collateral.CRL("Turin", false), "/vcek/v1/Turin/crl"},
		{kds, collateral.CRL("Turin", true), "/vlek/v1/Turin/crl"},
		{pcs, collateral.TCBInfo(collateral.TDX, fmspc), "/tdx/certification/v4/tcb?fmspc=b0c06f000000&update=standard"},
		{early, collateral.TCBInfo(collateral.SGX, fmspc), "/sgx/certification/v4/tcb?fmspc=b0c06f000000&update=early"},
		{early, numbered(collateral.TCBInfo(collateral.SGX, fmspc), 18), "/sgx/certification/v4/tcb?fmspc=b0c06f000000&tcbEvaluationDataNumber=18"},
		{pcs, collateral.QEIdentity(collateral.SGX), "/sgx/certification/v4/qe/identity?update=standard"},
		{pccs, numbered(collateral.QEIdentity(collateral.TDX), 19), "/tdx/certification/v4/qe/identity?tcbEvaluationDataNumber=19"},
		{pcs, collateral.PCKCRL(collateral.ProcessorCA), "/sgx/certification/v4/pckcrl?ca=processor&encoding=der"},
		{pcs, collateral.RootCRL(), "/IntelSGXRootCA.der"},
		{pccs, collateral.RootCRL(), "/sgx/certification/v4/rootcacrl"},
	} {
		it := maker.Item(t, c.r)
		d := newDouble(t, func(w http.ResponseWriter, _ *http.Request) { serve(w, it) })
		got, err := c.source(d.fetcher(nil), d.URL).Get(t.Context(), c.r)
		if err != nil {
			t.Errorf("%s: %v", c.r.Name(), err)
		}
		if diff := cmp.Diff(it, got); diff != "" {
			t.Errorf("%s: item differs (-served +got):\n%s", c.r.Name(), diff)
		}
		if diff := cmp.Diff([]string{c.want}, d.questions()); diff != "" {
			t.Errorf("%s: URLs differ (-want +got):\n%s", c.r.Name(), diff)
		}
	}
}

// serve sends an item as the vendors do, with the issuer chain in every header that may have it.
func serve(w http.ResponseWriter, it collateral.Item) {
	if it.IssuerChain != nil {
		for _, name := range []string{headerTCBInfoChain, headerIdentityChain, headerPCKCRLChain} {
			w.Header().Set(name, strings.ReplaceAll(url.QueryEscape(string(it.IssuerChain)), "+", "%20"))
		}
	}
	_, _ = w.Write(it.Body) // the client sees what is missing
}

func TestUnknownKinds(t *testing.T) {
	t.Parallel()
	d := newDouble(t, http.NotFound)
	for name, c := range map[string]struct {
		s collateral.Source
		r collateral.Request
	}{
		"KDS has nothing of Intel's":   {&KDS{d.fetcher(nil), d.URL}, collateral.RootCRL()},
		"PCS has nothing of AMD's":     {PCCS(d.fetcher(nil), d.URL), milan},
		"THIM has no revocation lists": {&THIM{d.fetcher(nil), d.URL}, collateral.CRL("Milan", false)},
		"THIM has no VLEK chain":       {&THIM{d.fetcher(nil), d.URL}, collateral.Chain("Milan", true)},
	} {
		if _, err := c.s.Get(t.Context(), c.r); !errors.Is(err, collateral.ErrNotOffered) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := c.s.Get(t.Context(), collateral.Request{}); err == nil || errors.Is(err, collateral.ErrUnavailable) {
			t.Errorf("%s: error of an empty request is %v", name, err)
		}
	}
	if asked := d.questions(); len(asked) != 0 {
		t.Errorf("asked for %v", asked)
	}
}

func TestOlderCaches(t *testing.T) {
	t.Parallel()
	maker := testcollateral.New(t, from, until)
	root, info := collateral.RootCRL(), collateral.TCBInfo(collateral.SGX, [6]byte{1})
	list, signed := maker.Item(t, root), maker.Item(t, info)
	d := newDouble(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "rootcacrl") {
			_, _ = w.Write([]byte(strings.ToUpper(hex.EncodeToString(list.Body)) + "\n"))
			return
		}
		w.Header().Set("SGX-TCB-Info-Issuer-Chain", url.PathEscape(string(signed.IssuerChain)))
		_, _ = w.Write(signed.Body)
	})
	s := PCCS(d.fetcher(nil), d.URL)
	for r, want := range map[string]collateral.Item{root.Name(): list, info.Name(): signed} {
		req, err := collateral.ParseName(r)
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Get(t.Context(), req)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v, differs (-want +got):\n%s", r, err, diff)
		}
	}
}

func TestTHIM(t *testing.T) {
	t.Parallel()
	maker := testcollateral.New(t, from, until)
	chain := collateral.Chain("Milan", false)
	cert, pair := maker.Item(t, milan), maker.Item(t, chain)
	body, err := json.Marshal(map[string]string{
		"vcekCert": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Body})), "tcbm": "DB18000000000104",
		"certificateChain": string(pair.Body), "cacheControl": "86400",
	})
	if err != nil {
		t.Fatal(err)
	}
	d := newDouble(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Metadata") != "true" || r.URL.Path != "/metadata/THIM/amd/certification" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		_, _ = w.Write(body)
	})
	s := &THIM{d.fetcher(nil), d.URL}
	for r, want := range map[*collateral.Request]collateral.Item{&milan: cert, &chain: pair} {
		got, err := s.Get(t.Context(), *r)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%s: %v, differs (-want +got):\n%s", r.Name(), err, diff)
		}
	}
	other, older := milan, milan
	other.ChipID = bytes.Repeat([]byte{1}, 64)
	older.TCB[0]--
	for want, r := range map[string]collateral.Request{
		"of another chip": other, "for TCB": older, "begins with \"SEV-Milan\"": collateral.Chain("Genoa", false),
	} {
		if _, err := s.Get(t.Context(), r); !errors.Is(err, collateral.ErrUnavailable) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", r.Name(), err, want)
		}
	}
}

// TestTHIMRealAnswer reads what a machine of Azure's got.
func TestTHIMRealAnswer(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile(testcap.Vectors(t, "snp/s1-aci-milan-v2/uvm_host_amd_certificate.json"))
	if err != nil {
		t.Fatal(err)
	}
	report, err := os.ReadFile(testcap.Vectors(t, "snp/s1-aci-milan-v2/snp_report.bin"))
	if err != nil {
		t.Fatal(err)
	}
	d := newDouble(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	s := &THIM{d.fetcher(nil), d.URL}
	chip, tcb := report[0x1a0:0x1e0], [8]byte(report[0x180:0x188])
	if _, err := s.Get(t.Context(), collateral.VCEK("Milan", chip, tcb)); err != nil {
		t.Error(err)
	}
	if _, err := s.Get(t.Context(), collateral.Chain("Milan", false)); err != nil {
		t.Error(err)
	}
}

// TestForeignChains has a server send the chain of another line, or of the other kind of key: a cache would keep it for
// good.
func TestForeignChains(t *testing.T) {
	t.Parallel()
	maker := testcollateral.New(t, from, until)
	asked := collateral.Chain("Milan", false)
	for _, sent := range []collateral.Request{collateral.Chain("Genoa", false), collateral.Chain("Milan", true)} {
		body := maker.Item(t, sent).Body
		d := newDouble(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
		_, err := (&KDS{d.fetcher(nil), d.URL}).Get(t.Context(), asked)
		if !errors.Is(err, collateral.ErrUnavailable) || !strings.Contains(err.Error(), `not "SEV-Milan"`) {
			t.Errorf("%s for %s: %v", sent.Name(), asked.Name(), err)
		}
	}
}
