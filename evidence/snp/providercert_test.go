// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/x509"
	"testing"
)

func TestProviderExtensionsRoundTrip(t *testing.T) {
	t.Parallel()
	for product, tcb := range map[string]TCB{"Milan-B0": {0: 4, 6: 0x18, 7: 0xdb}, "Turin": {0: 1, 1: 2, 3: 4, 7: 0x4d}} {
		exts, err := ProviderExtensions(product, tcb, "example.provider")
		if err != nil {
			t.Fatal(err)
		}
		got, err := ParseChipCertificate(&x509.Certificate{Extensions: exts})
		if err != nil {
			t.Fatalf("%s: %v", product, err)
		}
		if got.Key != SigningKeyVLEK || got.CSPID != "example.provider" || got.TCB != tcb || got.HWID != nil {
			t.Errorf("%s: %+v", product, got)
		}
	}
	for name, csp := range map[string]string{"newline": "a\nb", "not ASCII": "ä"} {
		if _, err := ProviderExtensions("Turin", TCB{}, csp); err == nil {
			t.Errorf("%s: encoded", name)
		}
	}
	exts, err := ProviderExtensions("Turin", TCB{}, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseChipCertificate(&x509.Certificate{Extensions: exts}); err == nil {
		t.Error("a provider without a name was parsed")
	}
}
