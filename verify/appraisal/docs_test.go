// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestExamples reads every policy and compiles every rule that the documentation shows.
func TestExamples(t *testing.T) {
	t.Parallel()
	blocks := regexp.MustCompile("(?ms)^```(yaml|rego)\n(.*?)^```$")
	found := map[string]int{}
	for _, page := range []string{"reference/appraisal-policy.md", "how-to/verify-evidence.md"} {
		for _, m := range blocks.FindAllStringSubmatch(string(read(t, filepath.Join("..", "..", "docs", filepath.FromSlash(page)))), -1) {
			found[m[1]]++
			var err error
			if m[1] == "yaml" && strings.Contains(m[2], Schema) {
				_, err = Parse([]byte(m[2]))
			} else if m[1] == "rego" {
				_, err = compileRules(t.Context(), []string{m[2]})
			}
			if err != nil {
				t.Errorf("%s: %v in\n%s", page, err, m[2])
			}
		}
	}
	if found["yaml"] < 2 || found["rego"] < 1 {
		t.Errorf("found %v: the pages are not read right", found)
	}
}
