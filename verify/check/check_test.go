// SPDX-License-Identifier: Apache-2.0

package check

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRecord(t *testing.T) {
	t.Parallel()
	var r, other Record
	r.Pass(Time, "a", "b")
	r.Require(true, Format, CodeReportMalformed, "c", "d")
	other.Require(false, Format, CodeReportMalformed, "e", "f")
	other.Undecided(ChipCertificate, CodeCertificateMissing, "g", "h")
	r.Adopt(&other)
	want := []Check{
		{Name: Time, Code: CodeOK, Title: Time.Title(), Result: Pass, Expected: "a", Actual: "b"},
		{Name: Format, Code: CodeOK, Title: Format.Title(), Result: Pass, Expected: "c", Actual: "d"},
		{Name: Format, Code: CodeReportMalformed, Title: Format.Title(), Result: Fail, Expected: "e", Actual: "f"},
		{Name: ChipCertificate, Code: CodeCertificateMissing, Title: ChipCertificate.Title(), Result: NotDecided, Expected: "g", Actual: "h",
			Fix: fixes[CodeCertificateMissing]},
	}
	if diff := cmp.Diff(want, r.Checks()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	r.Checks()[0].Result = Fail
	if r.Checks()[0].Result != Pass {
		t.Error("what was recorded can be changed")
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	titled := map[string]Name{}
	for _, n := range Names() {
		if n.Title() == "" {
			t.Errorf("%s has no title", n)
		}
		if o, ok := titled[n.Title()]; ok {
			t.Errorf("%s and %s have one title", n, o)
		}
		titled[n.Title()] = n
	}
	if Name("unknown").Title() != "" || len(titled) < 60 {
		t.Errorf("%d names", len(titled))
	}
}

func TestShow(t *testing.T) {
	t.Parallel()
	list := [][]byte{{0x0a}, {0xff, 1}, {}, {2}, {3}, {4}}
	for n, want := range map[int]string{0: "", 1: "0a", 2: "0a, ff01", 4: "0a, ff01, , 02", 6: "0a, ff01, , 02, and 2 more"} {
		if got := Hex(list[:n]); got != want {
			t.Errorf("%d: %q, not %q", n, got, want)
		}
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.FixedZone("east", 3600))
	if got := Stamp(at); got != "2026-01-02T02:04:05Z" || Stamp(time.Time{}) != "none" {
		t.Errorf("%q, %q", got, Stamp(time.Time{}))
	}
}
