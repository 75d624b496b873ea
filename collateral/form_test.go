// SPDX-License-Identifier: Apache-2.0

package collateral_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
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
)

// requests has one request of each kind, with variants.
func requests() []collateral.Request {
	numbered := collateral.TCBInfo(collateral.SGX, [6]byte{0, 0x60, 0x6a})
	numbered.EvaluationNumber = 18
	return []collateral.Request{
		collateral.VCEK("Milan", bytes.Repeat([]byte{7}, 64), [8]byte{4, 0, 0, 0, 0, 0, 0x18, 0xdb}),
		collateral.VCEK("Turin", bytes.Repeat([]byte{7}, 8), [8]byte{1, 2, 3, 4, 0, 0, 0, 5}),
		collateral.Chain("Genoa", false), collateral.Chain("Genoa", true), collateral.CRL("Milan", false), collateral.CRL("Milan", true),
		collateral.TCBInfo(collateral.TDX, [6]byte{0xb0, 0xc0, 0x6f}), numbered,
		collateral.QEIdentity(collateral.SGX), collateral.QEIdentity(collateral.TDX),
		collateral.PCKCRL(collateral.PlatformCA), collateral.RootCRL(),
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	maker := testcollateral.New(t, from, until)
	for _, r := range requests() {
		it := maker.Item(t, r)
		w, err := collateral.Inspect(r, it)
		if err != nil {
			t.Error(err)
			continue
		}
		if !w.From.Equal(from) || !w.Until.Equal(until) {
			t.Errorf("%s: window %v, want %v to %v", r.Name(), w, from, until)
		}
		for name, bad := range map[string]collateral.Item{
			"empty":                       {IssuerChain: it.IssuerChain},
			"error page":                  {Body: []byte("<html>busy</html>"), IssuerChain: it.IssuerChain},
			"truncated":                   {Body: it.Body[:len(it.Body)-40], IssuerChain: it.IssuerChain},
			"extended":                    {Body: append(bytes.Clone(it.Body), "junk"...), IssuerChain: it.IssuerChain},
			"huge":                        {Body: bytes.Repeat([]byte(" "), collateral.MaxBodySize+1), IssuerChain: it.IssuerChain},
			"issuer chain of other count": {Body: it.Body, IssuerChain: append(bytes.Clone(it.IssuerChain), "-----BEGIN X-----"...)},
		} {
			if _, err := collateral.Inspect(r, bad); err == nil {
				t.Errorf("%s, %s: accepted", r.Name(), name)
			}
		}
	}
}

func TestPutAndList(t *testing.T) {
	t.Parallel()
	maker := testcollateral.New(t, from, until)
	dir := collateral.Directory(filepath.Join(t.TempDir(), "new"))
	var want []string
	for _, r := range requests() {
		it := maker.Item(t, r)
		for range 2 { // the second time the files are there already
			if err := dir.Put(r, it); err != nil {
				t.Fatal(err)
			}
		}
		got, err := dir.Get(t.Context(), r)
		if diff := cmp.Diff(it, got); err != nil || diff != "" {
			t.Errorf("%s: %v, differs (-put +got):\n%s", r.Name(), err, diff)
		}
		want = append(want, r.Name())
	}
	if err := dir.Put(collateral.RootCRL(), collateral.Item{Body: []byte("<html>")}); err == nil {
		t.Error("an error page was put down as a list")
	}
	if err := os.WriteFile(filepath.Join(string(dir), "amd", "notes.txt"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	list, err := dir.Requests()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range list {
		got = append(got, r.Name())
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("names differ (-want +got):\n%s", diff)
	}
	if _, err := collateral.Directory(t.TempDir() + "/none").Requests(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("listing what is not there: %v", err)
	}
}

// TestInspectMixUps gives every item to every other request. Nothing but another line's chain or list has the same form.
func TestInspectMixUps(t *testing.T) {
	t.Parallel()
	maker := testcollateral.New(t, from, until)
	family := func(r collateral.Request) string {
		switch r.Kind {
		case collateral.AMDVCEK, collateral.AMDChain:
			return string(r.Kind)
		case collateral.AMDCRL, collateral.IntelRootCRL:
			return "list"
		}
		return r.Name()
	}
	for _, a := range requests() {
		it := maker.Item(t, a)
		for _, b := range requests() {
			same := family(a) == family(b) || family(a) == "list" && b.Kind == collateral.IntelPCKCRL
			if _, err := collateral.Inspect(b, it); (err == nil) != same {
				t.Errorf("item of %s for %s: %v", a.Name(), b.Name(), err)
			}
		}
	}
}

func TestInspectStatements(t *testing.T) {
	t.Parallel()
	r := collateral.TCBInfo(collateral.TDX, [6]byte{0xb0, 0xc0, 0x6f})
	it := testcollateral.New(t, from, until).Item(t, r)
	for name, edit := range map[string][2]string{
		"other FMSPC":     {"B0C06F", "B0C06E"},
		"other TEE":       {`"TDX"`, `"SGX"`},
		"no TEE":          {`"id":"TDX",`, ``},
		"no next update":  {`"nextUpdate"`, `"next"`},
		"no issue date":   {`"issueDate"`, `"issue"`},
		"odd date":        {"2026-02-01", "2026-02-31"},
		"short signature": {strings.Repeat("0", 128), "00"},
		"other member":    {`"tcbInfo"`, `"other"`},
	} {
		changed := bytes.Replace(it.Body, []byte(edit[0]), []byte(edit[1]), 1)
		if bytes.Equal(changed, it.Body) {
			t.Fatalf("%s: nothing was changed in %s", name, it.Body)
		}
		if _, err := collateral.Inspect(r, collateral.Item{Body: changed, IssuerChain: it.IssuerChain}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	r.EvaluationNumber = 18
	if _, err := collateral.Inspect(r, it); err == nil || !strings.Contains(err.Error(), "is 17, not 18") {
		t.Errorf("other evaluation number: %v", err)
	}
}

// TestInspectRealCollateral reads what Intel and AMD served.
func TestInspectRealCollateral(t *testing.T) {
	t.Parallel()
	read := func(name string) []byte {
		b, err := os.ReadFile(testcap.Vectors(t, name))
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	const t3 = "tdx/t3-v4-debug-50806f/collateral/"
	signing := read(t3 + "tcb_signing_chain.pem")
	fmspc := [6]byte{0x50, 0x80, 0x6f}
	for _, c := range []struct {
		r     collateral.Request
		it    collateral.Item
		until string
	}{
		{collateral.TCBInfo(collateral.TDX, fmspc), collateral.Item{Body: read(t3 + "tcb_info_50806f000000.json"), IssuerChain: signing}, "2026-04"},
		{collateral.QEIdentity(collateral.TDX), collateral.Item{Body: read(t3 + "td_qe_identity.json"), IssuerChain: read(t3 + "qe_identity_signing_chain.pem")}, "2026-04"},
		{collateral.PCKCRL(collateral.PlatformCA), collateral.Item{Body: read(t3 + "pck_crl_platform.der"), IssuerChain: signing}, "2026-04"},
		{collateral.RootCRL(), collateral.Item{Body: read(t3 + "root_ca_crl.der")}, ""},
		{collateral.Chain("Milan", false), collateral.Item{Body: read("anchors/amd/ask_ark_milan.pem")}, "2045"},
		{collateral.Chain("Turin", true), collateral.Item{Body: read("anchors/amd/ask_ark_turin_vlek.pem")}, ""},
		{collateral.VCEK("Milan", []byte(strings.Repeat("x", 64)), [8]byte{}), collateral.Item{Body: read("snp/s10-virtee/vcek_milan.der")}, ""},
		{collateral.VCEK("Turin", []byte(strings.Repeat("x", 8)), [8]byte{}), collateral.Item{Body: read("snp/s10-virtee/vcek_turin.der")}, ""},
	} {
		w, err := collateral.Inspect(c.r, c.it)
		if err != nil {
			t.Error(err)
			continue
		}
		if got := w.Until.Format(time.RFC3339); !strings.HasPrefix(got, c.until) || !w.From.Before(w.Until) {
			t.Errorf("%s: until %s, want %s", c.r.Name(), got, c.until)
		}
	}
}

// TestInspectBundledCollateral reads the strings of a bundle in which collateral is JSON.
func TestInspectBundledCollateral(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile(testcap.Vectors(t, "sgx/g1-v3-00a067/collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]string
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	list, err := hex.DecodeString(c["root_ca_crl"])
	if err != nil {
		t.Fatal(err)
	}
	info := `{"tcbInfo":` + c["tcb_info"] + `,"signature":"` + c["tcb_info_signature"] + `"}`
	items := map[string]collateral.Item{
		"intel/tcb-info/sgx/00a067110000": {Body: []byte(info), IssuerChain: []byte(c["tcb_info_issuer_chain"])},
		"intel/root-crl":                  {Body: list},
	}
	for name, it := range items {
		r, err := collateral.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := collateral.Inspect(r, it); err != nil {
			t.Error(err)
		}
	}
}

func FuzzInspect(f *testing.F) {
	maker := testcollateral.New(f, from, until)
	for _, r := range requests() {
		it := maker.Item(f, r)
		f.Add(r.Name(), it.Body, it.IssuerChain)
	}
	f.Fuzz(func(t *testing.T, name string, body, chain []byte) {
		r, err := collateral.ParseName(name)
		if err != nil {
			return
		}
		w, err := collateral.Inspect(r, collateral.Item{Body: body, IssuerChain: chain})
		if err == nil && w.Until.IsZero() {
			t.Error("an item without an end was accepted")
		}
	})
}
