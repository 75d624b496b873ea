// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/evidence"
)

// TestDocsEvidenceDocument computes the worked example and compares fields and limits with those of the code.
func TestDocsEvidenceDocument(t *testing.T) {
	text := page(t, "docs/reference/evidence-document.md")
	nonce, err := hex.DecodeString("00112233445566778899aabbccddeeff")
	if err != nil {
		t.Fatal(err)
	}
	sum := evidence.ReportData(evidence.SourceHost, nonce, []byte("hello"))
	digits := hex.EncodeToString(sum[:])
	if !strings.Contains(text, digits[:64]+"\n"+digits[64:]) {
		t.Errorf("the worked example is not %s", digits)
	}
	for part, size := range map[string]int{
		hex.EncodeToString([]byte("cofferdam.dev/report-data/v1")): 28, hex.EncodeToString([]byte(evidence.SourceHost)): 4,
		hex.EncodeToString(nonce): len(nonce), hex.EncodeToString([]byte("hello")): 5,
	} {
		if want := fmt.Sprintf("%016x %s", size, part); strings.Count(text, want) != 2 { // the bytes, and the shell's command
			t.Errorf("the worked example does not have %s twice", want)
		}
	}
	for field, want := range map[string]string{
		"report":       fmt.Sprintf("1 to %d", evidence.MaxReportSize),
		"certificates": fmt.Sprintf("0 to %d of them, 1 to %d each", evidence.MaxCertificates, evidence.MaxCertificateSize),
		"nonce":        fmt.Sprintf("%d to %d", evidence.MinNonceSize, evidence.MaxNonceSize),
		"runtimeData":  fmt.Sprintf("0 to %d", evidence.MaxRuntimeDataSize),
		"policy":       fmt.Sprintf("0 to %d", evidence.MaxPolicySize),
		"endorsements": fmt.Sprintf("0 to %d of them, 1 to %d each", evidence.MaxEndorsements, evidence.MaxEndorsementSize),
		"eventLog":     fmt.Sprintf("0 to %d", evidence.MaxEventLogSize),
		"collateral":   fmt.Sprintf("0 to %d of them, %d together", evidence.MaxCollateral, evidence.MaxCollateralSize),
	} {
		if !regexp.MustCompile("(?m)^\\| `" + field + "` \\| .* \\| " + want + " \\|$").MatchString(text) {
			t.Errorf("the page does not say that %s has %s bytes", field, want)
		}
	}
	for _, want := range []string{fmt.Sprintf("at most %d bytes", evidence.MaxDocumentSize), "`" + evidence.Schema + "`", "`" + evidence.TypeSEVSNP + "`"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	fields := map[string]bool{}
	for name := range firstColumn(between(text, "## Fields", "What protects what"), "[a-zA-Z]+") {
		fields[name] = true
	}
	keys := map[string]bool{}
	for _, m := range regexp.MustCompile("`json:\"([a-zA-Z]+)").FindAllStringSubmatch(between(page(t, "evidence/wire.go"), "type wire struct", "\n}\n"), -1) {
		keys[m[1]] = true
	}
	if d := cmp.Diff(keys, fields); d != "" {
		t.Errorf("fields of the code and of the page differ (-code +page):\n%s", d)
	}
}

func between(text, from, to string) string {
	_, text, _ = strings.Cut(text, from)
	text, _, _ = strings.Cut(text, to)
	return text
}

// TestDocsGoldenRoots compares the roots on the page with those that the converter is tested with.
func TestDocsGoldenRoots(t *testing.T) {
	source, err := os.ReadFile(filepath.Join(top(t), "internal", "layer", "layer_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	roots := func(text string) map[string]bool {
		found := map[string]bool{}
		for _, m := range regexp.MustCompile(`\b[0-9a-f]{64}\b`).FindAllString(text, -1) {
			found[m] = true
		}
		return found
	}
	want := roots(between(string(source), "func TestGoldenRoots", "\n}\n"))
	if d := cmp.Diff(want, roots(page(t, "docs/reference/layers.md"))); d != "" || len(want) < 3 {
		t.Errorf("roots of the test and of the page differ (-test +page):\n%s", d)
	}
}

// TestDocsIndex requires the index to link every page, and no page to be left alone.
func TestDocsIndex(t *testing.T) {
	index := page(t, "docs/README.md")
	linked := map[string]bool{}
	for _, m := range markdownLink.FindAllStringSubmatch(index, -1) {
		linked[filepath.Join("docs", m[1])] = true
	}
	for _, s := range sources(t, ".md") {
		if !strings.HasPrefix(s.path, "docs/") || s.path == "docs/README.md" || strings.HasPrefix(s.path, "docs/design/0") {
			continue
		}
		if !linked[s.path] {
			t.Errorf("docs/README.md does not link %s", s.path)
		}
	}
	if !strings.Contains(page(t, "README.md"), "](docs/README.md)") {
		t.Error("README.md does not link docs/README.md")
	}
}

var heading = regexp.MustCompile(`(?m)^#{1,6} (.+)$`)

// TestDocsAnchors follows the fragments of relative links to a heading of their page.
func TestDocsAnchors(t *testing.T) {
	for _, s := range sources(t, ".md") {
		for _, m := range regexp.MustCompile(`\]\(([^)#\s]*)#([^)\s]+)\)`).FindAllStringSubmatch(string(s.data), -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target := s.path
			if m[1] != "" {
				target = filepath.Join(filepath.Dir(s.path), m[1])
			}
			if !anchors(page(t, target))[m[2]] {
				t.Errorf("%s links to %s#%s, where no such heading is", s.path, target, m[2])
			}
		}
	}
}

// anchors are the names that headings get: lower case, punctuation gone, hyphens for spaces.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		name := strings.ToLower(regexp.MustCompile("[^A-Za-z0-9 _-]").ReplaceAllString(m[1], ""))
		found[strings.ReplaceAll(name, " ", "-")] = true
	}
	return found
}
