// SPDX-License-Identifier: Apache-2.0

package release

import (
	"errors"
	"strings"
	"testing"
)

func TestParseEndpoint(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"Contoso.vault.azure.net":               "https://contoso.vault.azure.net",
		"https://contoso.vault.azure.net/":      "https://contoso.vault.azure.net",
		"HTTPS://a:8443":                        "https://a:8443",
		"127.0.0.1:1":                           "https://127.0.0.1:1",
		"[::1]:1":                               "https://[::1]:1",
		"attest.example/tenants/contoso/":       "https://attest.example/tenants/contoso",
		"":                                      "",
		"http://a":                              "",
		"file:///etc/passwd":                    "",
		"a b":                                   "",
		"a?b":                                   "",
		"a#b":                                   "",
		"user@a":                                "",
		"https://user:secret@a":                 "",
		"https:///x":                            "",
		"-a.b":                                  "",
		"a..b":                                  "",
		"a\r\nb":                                "",
		"a?":                                    "",
		strings.Repeat("a.", maxEndpoint) + "a": "",
	} {
		u, err := ParseEndpoint(text)
		if err == nil && u.String() != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, ErrRequest) {
			t.Errorf("%q: %v, %v; want %q", text, u, err, want)
		}
	}
}

func TestParseKeyName(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"key": "key", "key/": "key", "a-1/0aF": "a-1/0aF",
		"": "", "/": "", "a/b/c": "", "a/../b": "", "a%2fb": "", "a b": "", "ä": "", "a/b-c": "", "a?b": "", strings.Repeat("a", 128): "",
	} {
		n, err := ParseKeyName(text)
		if n.String() != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", text, n, err, want)
		}
	}
}

func TestWithin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		host, domain string
		want         bool
	}{
		{"a.vault.azure.net", "vault.azure.net", true}, {"A.Vault.azure.net", "vault.azure.net", true}, {"vault.azure.net", "vault.azure.net", true},
		{"evilvault.azure.net", "vault.azure.net", false}, {"vault.azure.net.evil.example", "vault.azure.net", false},
		{"a.net", "net", false}, {"a", "", false}, {"localhost", "localhost", true},
	} {
		if got := within(c.host, c.domain); got != c.want {
			t.Errorf("%s within %s: %v", c.host, c.domain, got)
		}
	}
}
