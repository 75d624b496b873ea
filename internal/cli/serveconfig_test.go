// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestConfigurationPage reads the configuration in the reference page, and uses its rules.
func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "reference", "attestation-service.md"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(page)
	if m == nil {
		t.Fatal("the page has no configuration")
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err = os.WriteFile(file, m[1], 0o600); err != nil {
		t.Fatal(err)
	}
	var c attestationConfig
	if err = readConfig(file, &c); err != nil {
		t.Fatal(err)
	}
	if c.Schema != attestationConfigSchema || len(c.Compliance) != 1 || len(c.Tenants) != 2 || c.Listen.ClientRate != 50 {
		t.Errorf("%+v", c)
	}
	if _, err := c.Compliance[0].rule(); err != nil {
		t.Error(err)
	}
	if _, err := c.Admin.authenticator(filepath.Join(t.TempDir(), "token"), "attestation.admin"); err != nil {
		t.Error(err)
	}
}
