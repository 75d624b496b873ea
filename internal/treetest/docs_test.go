// SPDX-License-Identifier: Apache-2.0

package treetest

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	markdownLink = regexp.MustCompile(`\]\(([^)#\s]+)(#[^)]*)?\)`)
	makeTarget   = regexp.MustCompile("`make ([a-z-]+)`")
)

// TestDocsLinks follows every relative link of the documentation.
func TestDocsLinks(t *testing.T) {
	for _, s := range sources(t, ".md") {
		for _, m := range markdownLink.FindAllStringSubmatch(string(s.data), -1) {
			target := m[1]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			path := filepath.Join(top(t), filepath.Dir(s.path), target)
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", s.path, target, err)
			}
		}
	}
}

// TestDocsMakeTargets checks that every make target that the documentation names exists and is described.
func TestDocsMakeTargets(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(top(t), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sources(t, ".md") {
		for _, m := range makeTarget.FindAllStringSubmatch(string(s.data), -1) {
			if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(m[1]) + `:.*## `).Match(data) {
				t.Errorf("%s names `make %s`, which `make help` does not list", s.path, m[1])
			}
		}
	}
}

// TestDependencies checks that every direct dependency has its reason written down, and nothing else has.
func TestDependencies(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(top(t), "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(filepath.Join(top(t), "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{}
	for line := range strings.Lines(string(mod)) {
		f := strings.Fields(line)
		if len(f) >= 2 && strings.Contains(f[0], ".") && !strings.Contains(line, "// indirect") && strings.HasPrefix(f[1], "v") {
			direct[f[0]] = true
		}
	}
	if len(direct) == 0 || len(direct) > 60 {
		t.Errorf("%d direct dependencies; want 1 to 60", len(direct))
	}
	for d := range direct {
		if !strings.Contains(string(doc), "`"+d+"`") {
			t.Errorf("docs/dependencies.md gives no reason for %s", d)
		}
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(string(doc), -1) {
		if !direct[m[1]] {
			t.Errorf("docs/dependencies.md lists %s, which go.mod does not require directly", m[1])
		}
	}
}
