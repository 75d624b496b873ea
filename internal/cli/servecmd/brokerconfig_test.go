// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"cofferdam.dev/internal/kbs"
)

// TestBrokerConfigurationPage uses the rules of the configuration in the broker's page.
func TestBrokerConfigurationPage(t *testing.T) {
	t.Parallel()
	var c brokerConfig
	readConfigOf(t, "key-broker.md", &c)
	if c.Schema != brokerConfigSchema || c.URL != "https://broker.example" || c.Listen.ClientRate != 50 || len(c.Compliance) != 1 {
		t.Errorf("%+v", c)
	}
	if _, err := c.Compliance[0].rule(); err != nil {
		t.Error(err)
	}
	if _, err := c.Admin.authenticator(filepath.Join(t.TempDir(), "token"), kbs.RoleAdmin); err != nil {
		t.Error(err)
	}
}

// TestRulesInPages reads the rules that pages show. Values that a page cuts short stay texts.
func TestRulesInPages(t *testing.T) {
	t.Parallel()
	for _, page := range []string{"reference/key-broker.md", "how-to/key-broker.md"} {
		b, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", filepath.FromSlash(page)))
		if err != nil {
			t.Fatal(err)
		}
		seen := 0
		for _, m := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllSubmatch(b, -1) {
			if !regexp.MustCompile(`"schema"`).Match(m[1]) {
				continue
			}
			seen++
			if _, err := kbs.ParseRules(m[1]); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
		if seen != 1 {
			t.Errorf("%s has %d documents of rules", page, seen)
		}
	}
}
