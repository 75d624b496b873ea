// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/evidence/uvm"
	vaultrest "cofferdam.dev/internal/vault/rest"
	"cofferdam.dev/release"
)

var signerOnce = sync.OnceValues(func() (signed, error) {
	s, ca, err := vaultrest.DevelopmentSigner([]string{"127.0.0.1"}, now())
	return signed{s, ca}, err
})

type signed struct {
	signer *vaultrest.Signer
	ca     []byte
}

func developmentSigner() (*vaultrest.Signer, []byte, error) {
	s, err := signerOnce()
	return s.signer, s.ca, err
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func TestStatus(t *testing.T) {
	t.Parallel()
	s := theWorld(t).sidecar(t, nil)
	for _, path := range []string{"/status", "/status/"} {
		if a := call(t, s, path, nil); a.status != http.StatusOK || a.text("message") != "Status OK" || len(a.body) != 1 {
			t.Errorf("%s: %v", path, a)
		}
	}
}

func TestRaw(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	s := w.sidecar(t, nil)
	data := []byte{0xfb, 0xff, 0xbf, 1}
	sum := sha256.Sum256(data)
	for _, text := range []string{"+/+/AQ==", "-_-_AQ==", "-_-_AQ", "+/+/AQ"} {
		a := call(t, s, "/attest/raw", map[string]string{"runtime_data": text})
		b, err := hex.DecodeString(a.text("report"))
		if err != nil || a.status != http.StatusOK || len(b) != 1184 {
			t.Fatalf("%q: %v, %v", text, a, err)
		}
		r, err := snp.ParseReport(b)
		if err != nil || string(r.ReportData[:32]) != string(sum[:]) || r.ReportData[32] != 0 || r.HostData != w.hostData {
			t.Errorf("%q: report data %x, %v", text, r.ReportData, err)
		}
	}
}

func TestCombined(t *testing.T) {
	t.Parallel()
	endorsement := []byte("an endorsement")
	s := theWorld(t).sidecar(t, func(o *Options, _ *release.Options) {
		o.Evidence.Context = &uvm.SecurityContext{Endorsement: endorsement}
	})
	a := call(t, s, "/attest/combined", map[string]string{"runtime_data": "AAAA"})
	if a.status != http.StatusOK || len(a.body) != 4 || a.text("uvm_endorsements") != b64(endorsement) {
		t.Fatal(a)
	}
	report, err := base64.StdEncoding.DecodeString(a.text("evidence"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := snp.ParseReport(report)
	if err != nil {
		t.Fatal(err)
	}
	if want := tcbNumber(r.ReportedTCB); a.text("endorsed_tcb") != want || len(want) != 16 {
		t.Errorf("endorsed_tcb %s, want %s", a.text("endorsed_tcb"), want)
	}
	chain, err := base64.StdEncoding.DecodeString(a.text("endorsements"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for {
		block, rest := pem.Decode(chain)
		if block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		names, chain = append(names, c.Subject.CommonName), rest
	}
	if len(names) != 3 || !strings.Contains(names[0], "VCEK") || !strings.HasPrefix(names[2], "ARK") {
		t.Errorf("the chain is %v", names)
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	s := w.sidecar(t, nil)
	for text, want := range map[string]string{`{"role":"builder"}`: "role", "no JSON": ""} {
		a := call(t, s, "/attest/maa", map[string]string{"maa_endpoint": w.attestation.URL, "runtime_data": b64([]byte(text))})
		parts := strings.Split(a.text("token"), ".")
		if a.status != http.StatusOK || len(parts) != 3 {
			t.Fatal(a)
		}
		b, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil || !strings.Contains(string(b), `"x-ms-sevsnpvm-hostdata":"`+hex.EncodeToString(w.hostData[:])) || !strings.Contains(string(b), want) {
			t.Errorf("claims %s, %v", b, err)
		}
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	s := w.sidecar(t, nil)
	for _, format := range append(release.Formats(), "") {
		for _, kid := range []string{"oct", "rsa", "ec"} {
			a := call(t, s, "/key/release", w.asks(kid, "format", format))
			var k jose.JSONWebKey
			if err := json.Unmarshal([]byte(a.text("key")), &k); err != nil || a.status != http.StatusOK {
				t.Fatalf("%s as %q: %v, %v", kid, format, a, err)
			}
			if kid == "oct" && string(k.Key.([]byte)) != string(w.oct) || kid == "rsa" && !w.rsaKey.Equal(k.Key) || k.IsPublic() {
				t.Errorf("%s as %q: another key", kid, format)
			}
		}
	}
	a := call(t, s, "/secret/release", w.asks("", "name", "secret"))
	if a.status != http.StatusOK || a.text("value") != b64([]byte("a released secret")) {
		t.Error(a)
	}
}

// TestChallenge has a key released by a service that wants its own nonces, which only a sidecar that was told so gets.
func TestChallenge(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	asks := w.asks("oct", "maa_endpoint", w.strict.URL)
	if a := call(t, w.sidecar(t, nil), "/key/release", asks); a.status != http.StatusForbidden || a.text("code") != codeAttestationRefused || !strings.Contains(a.text("error"), "nonce") {
		t.Error(a)
	}
	s := w.sidecar(t, func(_ *Options, c *release.Options) { c.Challenge, c.SessionLife = true, -1 })
	for range 2 { // each nonce counts once
		if a := call(t, s, "/key/release", asks); a.status != http.StatusOK || a.text("key") == "" {
			t.Error(a)
		}
	}
}

// TestRefused names what was refused, by whom and why, in one object, and nothing else.
func TestRefused(t *testing.T) {
	t.Parallel()
	w := theWorld(t)
	s := w.sidecar(t, nil)
	broken := w.sidecar(t, func(o *Options, c *release.Options) {
		o.Evidence = &Evidence{Provider: noReports{}}
		c.Attester = o.Evidence
	})
	for name, c := range map[string]struct {
		s      http.Handler
		path   string
		body   any
		status int
		code   string
		text   string
	}{
		"no such endpoint":        {s, "/keys", nil, 404, codeNoRoute, "no such endpoint"},
		"GET of a POST":           {s, "/key/release", nil, 404, codeNoRoute, "POST"},
		"POST of a GET":           {s, "/status", "{}", 404, codeNoRoute, "GET"},
		"no JSON":                 {s, "/key/release", "x", 400, codeInvalid, "JSON"},
		"empty":                   {s, "/key/release", "", 400, codeInvalid, "JSON"},
		"two objects":             {s, "/attest/raw", `{"runtime_data":"AAAA"}{}`, 400, codeInvalid, "JSON"},
		"one member twice":        {s, "/attest/raw", `{"runtime_data":"AAAA","runtime_data":"AAAB"}`, 400, codeInvalid, "runtime_data"},
		"all missing":             {s, "/key/release", "{}", 400, codeInvalid, "missing or empty: maa_endpoint, akv_endpoint, kid"},
		"one missing":             {s, "/key/release", w.asks("rsa", "kid", ""), 400, codeInvalid, "missing or empty: kid"},
		"a number":                {s, "/key/release", map[string]any{"kid": 1, "maa_endpoint": "a", "akv_endpoint": "b"}, 400, codeInvalid, "kid is no text"},
		"raw without data":        {s, "/attest/raw", "{}", 400, codeInvalid, "runtime_data"},
		"raw with empty data":     {s, "/attest/raw", `{"runtime_data":""}`, 400, codeInvalid, "runtime_data"},
		"raw with bad data":       {s, "/attest/raw", `{"runtime_data":"***"}`, 400, codeInvalid, "runtime_data"},
		"combined with bad data":  {s, "/attest/combined", `{"runtime_data":"A"}`, 400, codeInvalid, "runtime_data"},
		"maa without endpoint":    {s, "/attest/maa", `{"runtime_data":"AAAA"}`, 400, codeInvalid, "maa_endpoint"},
		"maa without anything":    {s, "/attest/maa", `{}`, 400, codeInvalid, "maa_endpoint, runtime_data"},
		"maa nobody there":        {s, "/attest/maa", `{"maa_endpoint":"127.0.0.1:1","runtime_data":"AAAA"}`, 503, codeUnavailable, "attestation service"},
		"maa is no endpoint":      {s, "/attest/maa", `{"maa_endpoint":"http://x","runtime_data":"AAAA"}`, 400, codeInvalid, "not https"},
		"maa is something else":   {s, "/attest/maa", map[string]string{"maa_endpoint": w.vaultServer.URL, "runtime_data": "AAAA"}, 403, codeAttestationRefused, "attestation service"},
		"no evidence: raw":        {broken, "/attest/raw", `{"runtime_data":"AAAA"}`, 403, codeNoEvidence, "device is on fire"},
		"no evidence: combined":   {broken, "/attest/combined", `{"runtime_data":"AAAA"}`, 403, codeNoEvidence, "device is on fire"},
		"no evidence: maa":        {broken, "/attest/maa", map[string]string{"maa_endpoint": w.attestation.URL, "runtime_data": "AAAA"}, 403, codeNoEvidence, "device is on fire"},
		"no evidence: release":    {broken, "/key/release", w.asks("rsa"), 403, codeNoEvidence, "device is on fire"},
		"vault: nobody":           {s, "/key/release", w.asks("rsa", "access_token", ""), 401, codeVaultUnauthorized, "Unauthorized"},
		"vault: unknown":          {s, "/key/release", w.asks("rsa", "access_token", "stranger"), 401, codeVaultUnauthorized, "Unauthorized"},
		"vault: may not":          {s, "/key/release", w.asks("rsa", "access_token", "reader"), 403, codeVaultForbidden, "Forbidden"},
		"vault: policy":           {s, "/key/release", w.asks("foreign"), 403, codeVaultForbidden, "AccessDenied"},
		"vault: no such key":      {s, "/key/release", w.asks("absent"), 404, codeVaultNotFound, "KeyNotFound"},
		"vault: no such version":  {s, "/key/release", w.asks("rsa/00000000000000000000000000000000"), 404, codeVaultNotFound, "KeyNotFound"},
		"vault: nobody there":     {s, "/key/release", w.asks("rsa", "akv_endpoint", "127.0.0.1:1"), 503, codeUnavailable, "key vault"},
		"vault: not a vault":      {s, "/key/release", w.asks("rsa", "akv_endpoint", w.attestation.URL), 404, codeVaultNotFound, "key vault"},
		"key name":                {s, "/key/release", w.asks("../secrets/x"), 400, codeInvalid, "letters, digits and hyphens"},
		"format":                  {s, "/key/release", w.asks("rsa", "format", "ROT13"), 400, codeInvalid, "format"},
		"unwrap: nothing":         {s, "/unwrap", w.asks("rsa"), 400, codeInvalid, "wrapped"},
		"unwrap: both":            {s, "/unwrap", with(w.asks("rsa", "wrapped", "AAAA"), "secret", map[string]string{}), 400, codeInvalid, "both"},
		"unwrap: no name":         {s, "/unwrap", with(w.asks("rsa"), "secret", map[string]string{"akv_endpoint": "x"}), 400, codeInvalid, "name"},
		"unwrap: no object":       {s, "/unwrap", w.asks("rsa", "secret", "x"), 400, codeInvalid, "no object"},
		"unwrap: something else":  {s, "/unwrap", w.asks("rsa", "wrapped", "AAAA"), 403, codeUnwrap, "can not be opened"},
		"unwrap: kind":            {s, "/unwrap", w.asks("oct", "wrapped", "AAAA"), 400, codeInvalid, "needs an RSA key"},
		"unwrap: other kind":      {s, "/unwrap", w.asks("rsa", "wrapped", "AAAA", "format", formatKWP), 400, codeInvalid, "symmetric"},
		"unwrap: format":          {s, "/unwrap", w.asks("rsa", "wrapped", "AAAA", "format", "x"), 400, codeInvalid, "format"},
		"unwrap: no such secret":  {s, "/unwrap", with(w.asks("rsa"), "secret", map[string]string{"akv_endpoint": w.vaultServer.URL, "name": "absent"}), 404, codeVaultNotFound, "SecretNotFound"},
		"secrets: no kek":         {s, "/secrets/unwrap", map[string]string{"akvEndpoint": "x", "kid": "y"}, 400, codeInvalid, "kek"},
		"secrets: empty kek":      {s, "/secrets/unwrap", map[string]any{"akvEndpoint": "x", "kid": "y", "kek": map[string]string{}}, 400, codeInvalid, "maaEndpoint, akvEndpoint, kid"},
		"secret: not there":       {s, "/secret/release", w.asks("", "name", "absent"), 404, codeVaultNotFound, "SecretNotFound"},
		"secret: of no release":   {s, "/secret/release", w.asks("", "name", "wrapped"), 403, "", ""},
		"key: of no release":      {s, "/key/release", w.asks("fixed"), 403, "", ""},
		"both endpoints missing":  {s, "/unwrap", `{"kid":"x"}`, 400, codeInvalid, "maa_endpoint, akv_endpoint"},
		"secrets: nothing at all": {s, "/secrets/unwrap", `{}`, 400, codeInvalid, "akvEndpoint, kid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := call(t, c.s, c.path, c.body)
			if a.status != c.status || len(a.body) != 2 && a.text("release") == "" || c.code != "" && a.text("code") != c.code || !strings.Contains(a.text("error"), c.text) {
				t.Errorf("%d %v; want %d %s %q", a.status, a.body, c.status, c.code, c.text)
			}
			if _, has := a.body["release"]; has != (name == "vault: policy" || name == "secret: of no release" || name == "key: of no release") {
				t.Errorf("an ID of a release: %v", a.body)
			}
			for _, secret := range []string{"releaser", "stranger"} {
				if strings.Contains(a.text("error"), secret) {
					t.Errorf("the error has the access token: %s", a.text("error"))
				}
			}
		})
	}
}

func with(m map[string]any, name string, v any) map[string]any {
	m[name] = v
	return m
}

var errFire = errors.New("the device is on fire")
