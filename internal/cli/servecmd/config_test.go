// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// readConfigOf reads the configuration in a reference page.
func readConfigOf(t *testing.T, page string, into any) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "reference", page))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(b)
	if m == nil {
		t.Fatal("the page has no configuration")
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err = os.WriteFile(file, m[1], 0o600); err != nil {
		t.Fatal(err)
	}
	if err = readConfig(file, into); err != nil {
		t.Fatal(err)
	}
}

// TestVaultConfigurationPage uses the rules of the configuration in the vault's page.
func TestVaultConfigurationPage(t *testing.T) {
	t.Parallel()
	var c vaultConfig
	readConfigOf(t, "vault.md", &c)
	if c.Schema != vaultConfigSchema || len(c.Clients) != 1 || c.Listen.ClientRate != 50 {
		t.Errorf("%+v", c)
	}
	if err := c.checkRoles(); err != nil {
		t.Error(err)
	}
	c.Authorities[0].CA = "" // is not there
	if set, err := c.authoritySet(); err != nil || len(set.Issuers()) != 1 {
		t.Error(err)
	}
	if _, err := c.Callers.authenticator(filepath.Join(t.TempDir(), "token"), "any"); err != nil {
		t.Error(err)
	}
}

// TestConfigurationPage reads the configuration in the reference page, and uses its rules.
func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	var c attestationConfig
	readConfigOf(t, "attestation-service.md", &c)
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
