// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/testcap"
)

func TestServerName(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for base, want := range map[string]string{
		"https://kdsintf.amd.com":                "kdsintf.amd.com",
		"https://KDSintf.amd.com/":               "kdsintf.amd.com",
		"http://kdsintf.amd.com":                 "",
		"https://kdsintf.amd.com:8443":           "",
		"https://kdsintf.amd.com/mirror":         "",
		"https://kdsintf.amd.com?x":              "",
		"https://..":                             "",
		"https://kdsintf.amd.com@evil.example/x": "",
		"../../etc":                              "",
		"":                                       "",
	} {
		got := serverName(base)
		if want == "" {
			if before, ok := seen[got]; ok || filepath.Base(got) != got || got[:6] != "other-" {
				t.Errorf("%q has the directory %q, as %q has", base, got, before)
			}
			seen[got] = base
		} else if got != want {
			t.Errorf("%q has the directory %q, want %q", base, got, want)
		}
	}
}

// TestFetchForQuote finds out what a quote lacks that comes with nothing but its certificates.
func TestFetchForQuote(t *testing.T) {
	t.Parallel()
	report, err := os.ReadFile(testcap.Vectors(t, "tdx/t1-v4-b0c06f/tdx_quote.bin"))
	if err != nil {
		t.Fatal(err)
	}
	doc := &evidence.Document{Type: evidence.TypeTDX, Report: report}
	b, err := doc.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "evidence.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	a := New(&console.Console{Process: console.Process{Now: func() time.Time { return time.Date(2025, 6, 21, 0, 0, 0, 0, time.UTC) }}, Home: t.TempDir()})
	asked := noteOn(collateral.Join())
	if err := a.appraiseFor(context.Background(), &fetchOptions{evidence: file}, asked); err != nil {
		t.Fatal(err)
	}
	want := []string{"intel/pck-crl/platform", "intel/qe-identity/tdx", "intel/root-crl", "intel/tcb-info/tdx/b0c06f000000"}
	if diff := cmp.Diff(want, slices.Sorted(maps.Keys(asked.failed))); diff != "" {
		t.Errorf("what was asked for differs (-want +got):\n%s", diff)
	}
}
