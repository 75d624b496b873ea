// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/check"
)

func TestRefusalHasToBeTheRightOne(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		err  error
		want string // a part of the error; empty means that the refusal counts
	}{
		{"right", &guestv1.Denial{Code: guestv1.CodePolicyDenied, Point: "create_container"}, ""},
		{"none", nil, "NOT refused"},
		{"other code", &guestv1.Denial{Code: guestv1.CodeBadRequest}, "refused as BAD_REQUEST, and not as POLICY_DENIED"},
		{"no denial", errors.New("connection reset"), "the guest did not refuse it: connection reset"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			d, err := refusal(tc.err, guestv1.CodePolicyDenied)
			if tc.want == "" && (err != nil || d == nil) {
				t.Errorf("refusal is %v, %v", d, err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("error is %v, want %q in it", err, tc.want)
			}
		})
	}
}

func TestFailedOnly(t *testing.T) {
	t.Parallel()
	pass := check.Check{Code: check.CodeOK, Result: check.Pass}
	hostData := check.Check{Code: check.CodeHostData, Result: check.Fail}
	nonce := check.Check{Code: check.CodeNonce, Result: check.Fail}
	open := check.Check{Code: check.CodeSignatureNotChecked, Result: check.NotDecided}
	for _, tc := range []struct {
		name   string
		checks []check.Check
		want   bool
	}{
		{"nothing failed", []check.Check{pass}, false},
		{"the one", []check.Check{pass, hostData}, true},
		{"the one, and something open", []check.Check{hostData, open}, true},
		{"another one", []check.Check{nonce}, false},
		{"the one and another", []check.Check{hostData, nonce}, false},
		{"no checks", nil, false},
	} {
		if got := failedOnly(&verify.Verdict{Checks: tc.checks}, check.CodeHostData); got != tc.want {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

func TestFlipChangesOneBit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	before := bytes.Repeat([]byte{0x40}, 4096)
	err := os.WriteFile(from, before, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	err = flip(from, to, flippedByte)
	if err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(to)
	if err != nil {
		t.Fatal(err)
	}
	before[flippedByte] = 0x41
	if !bytes.Equal(before, after) {
		t.Error("the copy differs in more or less than the lowest bit of one byte")
	}
	err = flip(from, filepath.Join(dir, "beyond"), 4096)
	if err == nil {
		t.Error("a byte beyond the end was flipped")
	}
}

// A step that fails ends the tour: the later ones build on it.
func TestTourStopsAtAFailure(t *testing.T) {
	t.Parallel()
	var shown []string
	r := Run(context.Background(), Config{
		Home: t.TempDir(), Reference: "oci:" + filepath.Join(t.TempDir(), "nowhere"), Now: time.Now,
		Shown: func(s *Step) { shown = append(shown, s.Code) },
	})
	if r.Passed || len(r.Steps) != 1 || r.Steps[0].OK || r.Steps[0].Error == "" {
		t.Errorf("report is %+v", r)
	}
	if d := cmp.Diff([]string{"image"}, shown); d != "" {
		t.Errorf("shown (-want +got):\n%s", d)
	}
}

func TestPrinter(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	same := func(s string) string { return s }
	p := &Printer{Out: &b, Style: Style{Good: same, Bad: same, Strong: same, Dim: same}}
	p.Show(&Step{Title: "One", Facts: []Fact{{"a", "1"}, {"long", "2\n3"}}, Proves: "it works", OK: true, Milliseconds: 1234})
	p.Show(&Step{Title: "two", Attack: true, Proves: "it does not", OK: true})
	p.Show(&Step{Title: "three", Attack: true, Error: "it was NOT refused"})
	want := `
 1. One
      a     1
      long  2
            3
  proves: it works
  (1.2s)

 2. ATTACK: two
  refused: it does not
  (0.0s)

 3. ATTACK: three
  FAILED: it was NOT refused
  (0.0s)
`
	if d := cmp.Diff(want, b.String()); d != "" {
		t.Errorf("output (-want +got):\n%s", d)
	}
}
