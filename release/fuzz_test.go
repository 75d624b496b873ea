// SPDX-License-Identifier: Apache-2.0

package release

import (
	"strings"
	"testing"
	"time"
)

// FuzzParseEndpoint takes endpoints in one form, which names a host and nothing that was smuggled in.
func FuzzParseEndpoint(f *testing.F) {
	for _, s := range []string{"a.vault.azure.net", "https://a:443/tenants/x/", "[::1]:8443", "user@a", "a?b#c", "a\\@b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		u, err := ParseEndpoint(text)
		if err != nil {
			return
		}
		again, err := ParseEndpoint(u.String())
		if err != nil || again.String() != u.String() {
			t.Errorf("%q becomes %q, and that %v, %v", text, u, again, err)
		}
		if u.Scheme != "https" || u.Hostname() == "" || u.User != nil || strings.ContainsAny(u.String(), "?#@\r\n") {
			t.Errorf("%q becomes %q", text, u)
		}
	})
}

// FuzzAnswer takes no answer that nobody signed.
func FuzzAnswer(f *testing.F) {
	d := newDouble(f)
	good := d.sign(map[string]any{"request": map[string]any{"enc": DefaultFormat}})
	f.Add(good)
	f.Add("e30.e30.")
	u, err := ParseEndpoint(d.URL)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, compact string) {
		e, _, err := verifyAnswer(compact, &expected{vault: u, kind: keyKind, name: KeyName{Name: "oct"}, enc: DefaultFormat, nonce: "n", roots: d.roots, now: time.Now()})
		if err == nil || e != nil {
			t.Errorf("%q was taken: %v", compact, e)
		}
	})
}
