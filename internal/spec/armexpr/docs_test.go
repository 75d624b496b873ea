// SPDX-License-Identifier: Apache-2.0

package armexpr

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestDocumentedFunctions holds the table of functions to those that are evaluated.
func TestDocumentedFunctions(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/reference/descriptions.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "| about | functions |")
	table, _, found := strings.Cut(rest, "\n\n")
	if !found {
		t.Fatal("the page has no table of functions")
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("`([A-Za-z0-9]+)`").FindAllStringSubmatch(table, -1) {
		documented[strings.ToLower(m[1])] = true
	}
	known := append(slices.Collect(maps.Keys(functions)), slices.Collect(maps.Keys(scopeFunctions))...)
	known = append(known, "if", "and", "or", "coalesce")
	slices.Sort(known)
	if diff := cmp.Diff(known, slices.Sorted(maps.Keys(documented))); diff != "" {
		t.Error(diff)
	}
}
