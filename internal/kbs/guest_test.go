// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/kbs/kbstest"
)

// guest is a client of the protocol that shares no code with the broker.
type guest struct {
	*kbstest.Key

	t     testing.TB
	url   string
	http  *http.Client
	nonce string
	token string
}

// newGuest makes a guest with a key: "RSA", or the name of a curve.
func (w *world) newGuest(kind string) *guest {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	key, err := kbstest.NewKey(kind)
	if err != nil {
		w.t.Fatal(err)
	}
	return &guest{Key: key, t: w.t, url: w.server.URL, http: &http.Client{Jar: jar}}
}

// answer is what a request came to.
type answer struct {
	status  int
	header  http.Header
	body    []byte
	cookies []*http.Cookie
}

func send(t testing.TB, c *http.Client, req *http.Request) answer {
	t.Helper()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }() // read to its end
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{res.StatusCode, res.Header, b, res.Cookies()}
}

func (g *guest) send(method, path string, body any) answer {
	g.t.Helper()
	text, isText := body.(string)
	if !isText {
		b, err := json.Marshal(body)
		if err != nil {
			g.t.Fatal(err)
		}
		text = string(b)
	}
	req, err := http.NewRequestWithContext(g.t.Context(), method, g.url+"/kbs/v0/"+path, strings.NewReader(text))
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	return send(g.t, g.http, req)
}

// request asks for a challenge.
func (g *guest) request() answer {
	g.t.Helper()
	a := g.send("POST", "auth", map[string]any{
		"version": "0.4.0", "tee": "snp", "extra-params": map[string]any{"supported-hash-algorithms": []string{"sha256", "sha384", "sha512"}},
	})
	var c struct {
		Nonce string `json:"nonce"`
		Extra any    `json:"extra-params"`
	}
	if err := json.Unmarshal(a.body, &c); err != nil || a.status != http.StatusOK || c.Nonce == "" || c.Extra != "" {
		g.t.Fatalf("request: %d %s (%v)", a.status, a.body, err)
	}
	g.nonce = c.Nonce
	return a
}

// report has the machine make a report for the guest's key and nonce.
func (g *guest) report(m *machine) *attest.Result {
	g.t.Helper()
	data, err := g.ReportData(g.nonce)
	if err != nil {
		g.t.Fatal(err)
	}
	res, err := m.guest.Report(g.t.Context(), data)
	if err != nil {
		g.t.Fatal(err)
	}
	return res
}

// attestation is what the guest answers the challenge with.
func (g *guest) attestation(m *machine) map[string]any {
	g.t.Helper()
	res := g.report(m)
	body, err := g.Attestation(g.nonce, res.Report, res.Certificates)
	if err != nil {
		g.t.Fatal(err)
	}
	body["init-data"] = map[string]string{"format": "toml", "body": initData}
	return body
}

// attest answers the challenge.
func (g *guest) attest(body any) answer {
	g.t.Helper()
	a := g.send("POST", "attest", body)
	var v struct{ Token string }
	if a.status == http.StatusOK {
		if err := json.Unmarshal(a.body, &v); err != nil || v.Token == "" {
			g.t.Fatalf("attest: %s (%v)", a.body, err)
		}
		g.token = v.Token
	}
	return a
}

// handshake is a whole handshake that must succeed.
func (g *guest) handshake() {
	g.t.Helper()
	g.request()
	if a := g.attest(g.attestation(theMachine(g.t))); a.status != http.StatusOK {
		g.t.Fatalf("attest: %d %s", a.status, a.body)
	}
}

// get asks for a resource in the guest's session, or with a token when there is one.
func (g *guest) get(path, bearer string) answer {
	g.t.Helper()
	req, err := http.NewRequestWithContext(g.t.Context(), "GET", g.url+"/kbs/v0/resource/"+path, nil)
	if err != nil {
		g.t.Fatal(err)
	}
	c := g.http
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
		c = http.DefaultClient // without the session
	}
	return send(g.t, c, req)
}

// decrypt decrypts an answer with the guest's key.
func (g *guest) decrypt(a answer) (string, error) {
	if a.status != http.StatusOK {
		return "", fmt.Errorf("status %d: %s", a.status, a.body)
	}
	plain, err := g.Decrypt(a.body)
	return string(plain), err
}

// mustGet gets a resource.
func (g *guest) mustGet(path, bearer string) string {
	g.t.Helper()
	plain, err := g.decrypt(g.get(path, bearer))
	if err != nil {
		g.t.Fatalf("%s: %v", path, err)
	}
	return plain
}

// failure returns the kind of an error, which must be in the protocol's form.
func (a answer) failure(t testing.TB) string {
	t.Helper()
	var v map[string]string
	kind, ok := "", false
	if err := json.Unmarshal(a.body, &v); err == nil && len(v) == 2 && v["detail"] != "" {
		kind, ok = strings.CutPrefix(v["type"], "https://github.com/confidential-containers/kbs/errors/")
	}
	if !ok || a.status < 400 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	return kind
}

// rulesFor are rules that let guests with some host data have resources.
func rulesFor(issuer string, hostData [32]byte, patterns ...string) string {
	return fmt.Sprintf(`{"schema":"cofferdam.dev/resource-policy/v1","rules":[{"resources":["%s"],"policy":{"version":"1.0.0","anyOf":[
		{"authority":%q,"allOf":[{"claim":"x-ms-sevsnpvm-hostdata","equals":%q},{"claim":"x-ms-sevsnpvm-is-debuggable","equals":false}]}]}}]}`,
		strings.Join(patterns, `","`), issuer, hex.EncodeToString(hostData[:]))
}

func encode64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func decode64(s string) ([]byte, error) { return base64.RawURLEncoding.DecodeString(s) }

// certificates returns the certificates of a table.
func certificates(t testing.TB, table []byte) [][]byte {
	t.Helper()
	entries, err := snp.ParseCertificateTable(table)
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for _, e := range entries {
		out = append(out, e.Data)
	}
	return out
}
