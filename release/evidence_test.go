// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"cofferdam.dev/attest"
)

func TestLeafFirst(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	odd := []byte("no certificate")
	stranger := newDouble(t).issue(&x509.Certificate{}, nil, &d.caKey.PublicKey).Raw
	for name, c := range map[string]struct{ in, want [][]byte }{
		"turned round": {[][]byte{d.ca.Raw, d.leaf.Raw}, [][]byte{d.leaf.Raw, d.ca.Raw}},
		"in order":     {[][]byte{d.leaf.Raw, d.ca.Raw}, [][]byte{d.leaf.Raw, d.ca.Raw}},
		"one":          {[][]byte{d.leaf.Raw}, [][]byte{d.leaf.Raw}},
		"none":         {nil, nil},
		"unreadable":   {[][]byte{odd, d.leaf.Raw}, [][]byte{odd, d.leaf.Raw}},
	} {
		if got := LeafFirst(c.in); !slices.EqualFunc(got, c.want, slices.Equal) {
			t.Errorf("%s: other order", name)
		}
	}
	if got := LeafFirst([][]byte{d.ca.Raw, stranger, d.leaf.Raw}); len(got) != 3 {
		t.Errorf("%d of 3 certificates are left", len(got))
	}
}

// provider is a source of reports that answers one thing.
type provider struct {
	res *attest.Result
	err error
}

// Kind names the source.
func (provider) Kind() string { return "test" }

// Report answers.
func (p provider) Report(context.Context, [64]byte) (*attest.Result, error) { return p.res, p.err }

func TestFromProvider(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	if _, err := FromProvider(provider{err: broken}).Evidence(t.Context(), [64]byte{}); !errors.Is(err, broken) {
		t.Error(err)
	}
	e, err := FromProvider(provider{res: &attest.Result{Type: attest.TypeTDX, Report: []byte("quote"), Certificates: []byte("not a table")}}).Evidence(t.Context(), [64]byte{})
	if err != nil || e.Type != attest.TypeTDX || string(e.Report) != "quote" || e.Certificates != nil {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err = FromProvider(provider{res: &attest.Result{Type: attest.TypeSEVSNP, Certificates: []byte("not a table")}}).Evidence(t.Context(), [64]byte{}); err == nil {
		t.Error("a broken table of certificates was taken")
	}
}

// TestAttestBody has the bodies as attestation services get them from release sidecars.
func TestAttestBody(t *testing.T) {
	t.Parallel()
	path, b, err := attestBody(&Evidence{Type: attest.TypeTDX, Report: []byte{0xfb, 0xff}}, []byte("[1]"), "")
	if want := `{"quote":"-_8=","runtimeData":{"data":"WzFd","dataType":"Binary"}}`; err != nil || string(b) != want || path != "/attest/TdxVm?api-version=2025-06-01" {
		t.Errorf("%s %s, %v", path, b, err)
	}
	path, b, err = attestBody(&Evidence{Type: attest.TypeSEVSNP, Report: []byte{0xfb, 0xff}, Certificates: [][]byte{{1}}, Endorsements: [][]byte{{0xfb}}}, []byte(`{"keys":[]}`), "")
	if err != nil || path != "/attest/SevSnpVM?api-version=2020-10-01" {
		t.Fatal(path, err)
	}
	var v struct {
		Report      string          `json:"report"`
		RuntimeData data            `json:"runtimeData"`
		InitTime    json.RawMessage `json:"initTimeData"`
		Nonce       uint64          `json:"nonce"`
	}
	if err := json.Unmarshal(b, &v); err != nil || v.RuntimeData != (data{"eyJrZXlzIjpbXX0=", "JSON"}) || string(v.InitTime) != `{"data":"","dataType":""}` {
		t.Errorf("%s, %v", b, err)
	}
	inner, err := base64.URLEncoding.DecodeString(v.Report)
	if want := `{"SnpReport":"-_8=","VcekCertChain":"LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFRPT0KLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=","Endorsements":"eyJVdm0iOlsiLXc9PSJdfQ=="}`; err != nil || string(inner) != want {
		t.Errorf("the report is %s, %v", inner, err)
	}
}
