// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cofferdam.dev/attest"
	"cofferdam.dev/collateral/remote"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/evidence/uvm"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/simsp/kds"
	"cofferdam.dev/release"
)

// bare is a source whose reports come without certificates, as those of Azure's hosts do.
type bare struct{ attest.Provider }

// Report drops the certificates.
func (b bare) Report(ctx context.Context, d [64]byte) (*attest.Result, error) {
	r, err := b.Provider.Report(ctx, d)
	if err != nil {
		return nil, err
	}
	return &attest.Result{Type: r.Type, Report: r.Report}, nil
}

// chip is what the world's chip has: its report, and its certificates in DER.
func chip(t testing.TB) (*snp.Report, [][]byte) {
	t.Helper()
	res, err := theWorld(t).guest.Report(t.Context(), [64]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(res.Report)
	if err != nil {
		t.Fatal(err)
	}
	list, err := res.CertificateList()
	if err != nil {
		t.Fatal(err)
	}
	return r, release.LeafFirst(list)
}

func asPEM(list ...[]byte) string {
	var b strings.Builder
	for _, der := range list {
		b.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	return b.String()
}

// counted is a source of certificates that counts.
type counted struct {
	n    int
	give func(n int) ([][]byte, error)
}

// Certificates gives what the test says.
func (c *counted) Certificates(context.Context, *snp.Report) ([][]byte, error) {
	c.n++
	return c.give(c.n)
}

// TestCertificates finds those that fit, wherever they are, and says why when there are none.
func TestCertificates(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	r, good := chip(t)
	other := otherTCB(t)
	host := func(list [][]byte) *uvm.SecurityContext {
		return &uvm.SecurityContext{HostCert: &uvm.HostAMDCert{VCEK: list[0], Chain: list[1:]}}
	}
	give := func(list [][]byte) func(int) ([][]byte, error) {
		return func(int) ([][]byte, error) { return list, nil }
	}
	for name, c := range map[string]struct {
		e     *Evidence
		want  string
		asked int
	}{
		"with the report":           {&Evidence{Provider: w.guest, Context: host(other), Certs: &counted{give: give(other)}}, "", 0},
		"of the host":               {&Evidence{Provider: bare{w.guest}, Context: host(good), Certs: &counted{give: give(other)}}, "", 0},
		"host's are old":            {&Evidence{Provider: bare{w.guest}, Context: host(other), Certs: &counted{give: give(good)}}, "", 1},
		"fetched":                   {&Evidence{Provider: bare{w.guest}, Certs: &counted{give: give(good)}}, "", 1},
		"fetched at the second try": {&Evidence{Provider: bare{w.guest}, Certs: &counted{give: func(n int) ([][]byte, error) { return [][][]byte{other, good}[n-1], nil }}}, "", 2},
		"always old":                {&Evidence{Provider: bare{w.guest}, Certs: &counted{give: give(other)}}, "the certificate of the chip is for", 2},
		"old and nobody to ask":     {&Evidence{Provider: bare{w.guest}, Context: host(other), Certs: nil}, "the certificate of the chip is for", 0},
		"old, and that is allowed":  {&Evidence{Provider: bare{w.guest}, Certs: &counted{give: give(other)}, AllowMismatchedTCB: true}, "", 1},
		"server is down":            {&Evidence{Provider: bare{w.guest}, Certs: &counted{give: func(int) ([][]byte, error) { return nil, errFire }}}, "on fire", 1},
		"not certificates":          {&Evidence{Provider: bare{w.guest}, Certs: &counted{give: give([][]byte{{1}})}}, "chip's certificate", 1},
		"of no chip":                {&Evidence{Provider: bare{w.guest}, Certs: &counted{give: give(good[1:])}}, "chip's certificate", 1},
		"nothing anywhere":          {&Evidence{Provider: bare{w.guest}}, "no server of them is configured", 0},
		"no provider":               {&Evidence{}, "no source of reports", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for range 2 { // what was fetched is kept
				got, err := c.e.Collect(t.Context(), [64]byte{2})
				if c.want != "" {
					if err == nil || !strings.Contains(err.Error(), c.want) {
						t.Fatalf("%v; want %q", err, c.want)
					}
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				if !c.e.AllowMismatchedTCB && (got.TCB != r.ReportedTCB || !slices.EqualFunc(got.Certificates, good, slices.Equal)) {
					t.Error("other certificates")
				}
			}
			n := 0
			if s, ok := c.e.Certs.(*counted); ok {
				n = s.n
			}
			if c.e.AllowMismatchedTCB {
				n = min(n, 1) // those are not kept
			}
			if n != c.asked {
				t.Errorf("the server was asked %d times, want %d", n, c.asked)
			}
		})
	}
}

// otherTCB is the same chip's certificates under another TCB.
func otherTCB(t testing.TB) [][]byte {
	t.Helper()
	p, err := simsp.Open(filepath.Join(shared.dir, "simsp"))
	if err != nil {
		t.Fatal(err)
	}
	r, good := chip(t)
	tcb := r.ReportedTCB
	tcb[0]++
	vcek, err := p.ChipCertificate(snp.Milan, tcb)
	if err != nil {
		t.Fatal(err)
	}
	return append([][]byte{vcek}, good[1:]...)
}

// TestServers gets certificates from each kind of server.
func TestServers(t *testing.T) {
	t.Parallel()
	r, good := chip(t)
	p, err := simsp.Open(filepath.Join(shared.dir, "simsp"))
	if err != nil {
		t.Fatal(err)
	}
	amd := httptest.NewTLSServer(kds.New(p, kds.Options{}))
	t.Cleanup(amd.Close)
	tcb := fmt.Sprintf("%x", binary.LittleEndian.Uint64(r.ReportedTCB[:]))
	cache := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		want := "/SevSnpVM/certificates/" + hex.EncodeToString(r.ChipID[:]) + "/" + tcb
		if req.URL.Path != want || req.URL.Query().Get("api-version") != "2020-10-15-preview" || req.URL.Query().Get("clientId") != "me" {
			http.Error(w, "no", http.StatusBadRequest)
			return
		}
		_, _ = io.WriteString(w, asPEM(good[2], good[0], good[1])) // in any order
	}))
	t.Cleanup(cache.Close)
	thim := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/metadata/THIM/amd/certification" || req.Header.Get("Metadata") != "true" {
			http.NotFound(w, req)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"vcekCert": asPEM(good[0]), "certificateChain": asPEM(good[1:]...), "tcbm": tcb})
	}))
	t.Cleanup(thim.Close)
	for name, c := range map[string]struct {
		config CertCache
		client *http.Client
		want   string
	}{
		"AMD":                 {CertCache{EndpointType: CertAMD, Endpoint: amd.URL + "/vcek/v1", TEEType: "Milan"}, amd.Client(), ""},
		"AMD without path":    {CertCache{EndpointType: CertAMD, Endpoint: strings.TrimPrefix(amd.URL, "https://"), TEEType: "Milan"}, amd.Client(), ""},
		"AzCache":             {CertCache{EndpointType: CertAzCache, Endpoint: cache.URL, TEEType: "SevSnpVM", APIVersion: "api-version=2020-10-15-preview", ClientID: "me"}, cache.Client(), ""},
		"AzCache refuses":     {CertCache{EndpointType: CertAzCache, Endpoint: cache.URL, TEEType: "SevSnpVM"}, cache.Client(), "answered 400"},
		"LocalTHIM":           {CertCache{EndpointType: CertLocalTHIM, Endpoint: thim.URL}, thim.Client(), ""},
		"LocalTHIM with path": {CertCache{EndpointType: CertLocalTHIM, Endpoint: strings.TrimPrefix(thim.URL, "http://") + "/metadata/THIM/amd/certification"}, thim.Client(), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, err := OpenCerts(&c.config, c.client, c.client)
			if err != nil {
				t.Fatal(err)
			}
			e := &Evidence{Provider: bare{theWorld(t).guest}, Certs: s}
			got, err := e.Collect(t.Context(), [64]byte{3})
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v; want %q", err, c.want)
				}
				return
			}
			if err != nil || got.TCB != r.ReportedTCB || len(got.Certificates) != 3 || !slices.Equal(got.Certificates[2], good[2]) {
				t.Errorf("other certificates, or %v", err)
			}
		})
	}
	for _, c := range []CertCache{{EndpointType: "else"}, {EndpointType: CertAMD, Endpoint: "http://x", TEEType: "Milan"}, {EndpointType: CertLocalTHIM, Endpoint: "x/y"}} {
		if _, err := OpenCerts(&c, nil, nil); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	if _, err := OpenCerts(&CertCache{}, nil, remote.NewLinkLocalHTTPClient()); err != nil {
		t.Error(err)
	}
}

// TestReadContext reads what hosts give, old and new, whole and in part.
func TestReadContext(t *testing.T) {
	t.Parallel()
	r, good := chip(t)
	cert, err := json.Marshal(map[string]string{
		"vcekCert": asPEM(good[0]), "certificateChain": asPEM(good[1:]...), "tcbm": tcbNumber(r.ReportedTCB), "cacheControl": "86400",
	})
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.StdEncoding.EncodeToString
	files := map[string]string{uvm.PolicyFile: enc([]byte("package policy")), uvm.ReferenceInfoFile: enc([]byte("cose")) + "\n", uvm.HostAMDCertFile: enc(cert)}
	dirs := func(names ...string) (root string) {
		root = t.TempDir()
		for _, n := range names {
			if err := os.Mkdir(filepath.Join(root, n), 0o700); err != nil {
				t.Fatal(err)
			}
			for f, text := range files {
				if err := os.WriteFile(filepath.Join(root, n, f), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		}
		return root
	}
	one := dirs("security-context-1")
	if err := os.WriteFile(filepath.Join(dirs("x"), "x", uvm.HostAMDCertFile), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	partly := dirs("security-context-1")
	for _, f := range []string{uvm.PolicyFile, uvm.HostAMDCertFile} {
		if err := os.Remove(filepath.Join(partly, "security-context-1", f)); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		env   map[string]string
		root  string
		parts int
		want  string
	}{
		"named":        {map[string]string{EnvContextDir: filepath.Join(one, "security-context-1")}, t.TempDir(), 3, ""},
		"found":        {nil, one, 3, ""},
		"environment":  {map[string]string{EnvPolicy: files[uvm.PolicyFile], EnvReference: files[uvm.ReferenceInfoFile], EnvHostCert: files[uvm.HostAMDCertFile]}, t.TempDir(), 3, ""},
		"nothing":      {nil, t.TempDir(), 0, ""},
		"partly":       {nil, partly, 1, ""},
		"two":          {nil, dirs("security-context-1", "security-context-2"), 0, "there are 2 directories"},
		"not there":    {map[string]string{EnvContextDir: "/nowhere"}, one, 0, "/nowhere"},
		"no base64":    {map[string]string{EnvPolicy: "***"}, t.TempDir(), 0, uvm.PolicyFile},
		"certificates": {map[string]string{EnvHostCert: enc([]byte("{}"))}, t.TempDir(), 0, uvm.HostAMDCertFile},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := ReadContext(func(n string) (string, bool) { v, ok := c.env[n]; return v, ok }, c.root)
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%v; want %q", err, c.want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			parts := 0
			for _, there := range []bool{len(got.Policy) > 0, len(got.Endorsement) > 0, got.HostCert != nil} {
				if there {
					parts++
				}
			}
			if parts != c.parts {
				t.Errorf("%d parts, want %d", parts, c.parts)
			}
		})
	}
}

func TestParseAzureInformation(t *testing.T) {
	t.Parallel()
	full := `{"certcache":{"endpoint_type":"AzCache","endpoint":"americas.acccache.azure.net","tee_type":"SevSnpVM","api_version":"api-version=2020-10-15-preview"},"identity":{"client_id":"c"},"maaconfig":{"user_agent":"u"}}`
	for text, want := range map[string]string{
		"": "", "{}": "", full: "", base64.StdEncoding.EncodeToString([]byte(full)): "", base64.RawURLEncoding.EncodeToString([]byte(full)): "",
		"***":                                   "neither JSON",
		"e30x":                                  "JSON",
		`{"certCache":`:                         "",
		`{"certcache":{"endpoint_type":"AMD"}}`: "needs endpoint and tee_type",
		`{"certcache":{"endpoint_type":"Amd","endpoint":"x","tee_type":"x"}}`: "want AMD",
		`{"azure":{}}`: "azure",
		`{"identity":{"client_id":"a","client_id":"b"}}`: "client_id",
		`{} {}`: "JSON",
		`{"maaconfig":{"user_agent":"` + strings.Repeat("a", maxConfig) + `"}}`: "more than",
	} {
		c, err := ParseAzureInformation(text)
		broken := strings.HasPrefix(text, `{"certCache":`)
		switch {
		case broken:
			if err == nil {
				t.Errorf("%.40s was taken", text)
			}
		case (err != nil) != (want != ""), err != nil && want != "JSON" && !strings.Contains(err.Error(), want):
			t.Errorf("%.40s: %v; want %q", text, err, want)
		case len(text) > 200 && err == nil && (c.CertCache.Endpoint != "americas.acccache.azure.net" || c.Identity.ClientID != "c" || c.MAA.UserAgent != "u"):
			t.Errorf("%.40s: %+v", text, c)
		}
	}
}

// TestNothingListening is a source whose port is gone.
func TestNothingListening(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	_ = theirs.Close()
	e := &Evidence{Provider: attest.OpenSimulated(ours)}
	if _, err := e.Raw(t.Context(), [64]byte{}); err == nil || errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
