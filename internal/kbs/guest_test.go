// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/evidence/snp"
)

// guest is a client of the protocol, written from its description: it shares no code with the broker.
type guest struct {
	t       testing.TB
	url     string
	http    *http.Client
	private crypto.PrivateKey
	public  map[string]string
	alg     jose.KeyAlgorithm
	nonce   string
	token   string
}

var b64 = base64.RawURLEncoding.EncodeToString

// newGuest makes a guest with a key: "RSA", or the name of a curve.
func (w *world) newGuest(kind string) *guest {
	w.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	g := &guest{t: w.t, url: w.server.URL, http: &http.Client{Jar: jar}}
	g.newKey(kind)
	return g
}

func (g *guest) newKey(kind string) {
	if kind == "RSA" {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			g.t.Fatal(err)
		}
		g.private, g.alg = key, jose.RSA_OAEP_256
		g.public = map[string]string{"kty": "RSA", "alg": "RSA-OAEP-256", "n": b64(key.N.Bytes()), "e": "AQAB"}
		return
	}
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-521": elliptic.P521()}[kind]
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		g.t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		g.t.Fatal(err)
	}
	half := (len(point) - 1) / 2
	g.private, g.alg = key, jose.ECDH_ES_A256KW
	g.public = map[string]string{"kty": "EC", "crv": kind, "alg": "ECDH-ES+A256KW", "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
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

// reportData is the SHA-384 of the runtime data, with the members of each object sorted: what encoding/json makes of maps.
func (g *guest) reportData() (data [64]byte) {
	b, err := json.Marshal(map[string]any{"tee-pubkey": g.public, "nonce": g.nonce, "additional-evidence": ""})
	if err != nil {
		g.t.Fatal(err)
	}
	sum := sha512.Sum384(b)
	copy(data[:], sum[:])
	return data
}

// attestation is what the guest answers the challenge with.
func (g *guest) attestation(m *machine) map[string]any {
	g.t.Helper()
	res, err := m.guest.Report(g.t.Context(), g.reportData())
	if err != nil {
		g.t.Fatal(err)
	}
	table, err := snp.ParseCertificateTable(res.Certificates)
	if err != nil {
		g.t.Fatal(err)
	}
	names := map[snp.GUID]string{snp.GUIDVCEK: "VCEK", snp.GUIDASK: "ASK", snp.GUIDARK: "ARK", snp.GUIDVLEK: "VLEK"}
	var chain []any
	for _, e := range table {
		chain = append(chain, map[string]any{"cert_type": names[e.GUID], "data": numbers(e.Data)})
	}
	return map[string]any{
		"init-data":    map[string]string{"format": "toml", "body": initData},
		"runtime-data": map[string]any{"nonce": g.nonce, "tee-pubkey": maps.Clone(g.public)},
		"tee-evidence": map[string]any{
			"primary_evidence":    map[string]any{"attestation_report": reportJSON(res.Report), "cert_chain": chain},
			"additional_evidence": "",
		},
	}
}

func numbers(b []byte) []int {
	out := []int{}
	for _, v := range b {
		out = append(out, int(v))
	}
	return out
}

// reportJSON is a report of version 3 or later as guests write it, by the offsets of the ABI.
func reportJSON(b []byte) map[string]any {
	le, cut := binary.LittleEndian, func(from, to int) []int { return numbers(b[from:to]) }
	tcb := func(at int) map[string]any {
		return map[string]any{"fmc": nil, "bootloader": b[at], "tee": b[at+1], "snp": b[at+6], "microcode": b[at+7]}
	}
	firmware := func(at int) map[string]any { return map[string]any{"build": b[at], "minor": b[at+1], "major": b[at+2]} }
	m := map[string]any{
		"version": le.Uint32(b), "guest_svn": le.Uint32(b[4:]), "policy": le.Uint64(b[8:]), "family_id": cut(0x10, 0x20), "image_id": cut(0x20, 0x30),
		"vmpl": le.Uint32(b[0x30:]), "sig_algo": le.Uint32(b[0x34:]), "current_tcb": tcb(0x38), "plat_info": le.Uint64(b[0x40:]), "key_info": le.Uint32(b[0x48:]),
		"report_data": cut(0x50, 0x90), "measurement": cut(0x90, 0xC0), "host_data": cut(0xC0, 0xE0), "id_key_digest": cut(0xE0, 0x110),
		"author_key_digest": cut(0x110, 0x140), "report_id": cut(0x140, 0x160), "report_id_ma": cut(0x160, 0x180), "reported_tcb": tcb(0x180),
		"cpuid_fam_id": b[0x188], "cpuid_mod_id": b[0x189], "cpuid_step": b[0x18A], "chip_id": cut(0x1A0, 0x1E0), "committed_tcb": tcb(0x1E0),
		"current": firmware(0x1E8), "committed": firmware(0x1EC), "launch_tcb": tcb(0x1F0), "launch_mit_vector": nil, "current_mit_vector": nil,
		"signature": map[string]any{"r": cut(0x2A0, 0x2E8), "s": cut(0x2E8, 0x330)},
	}
	if le.Uint32(b) >= 5 {
		m["launch_mit_vector"], m["current_mit_vector"] = le.Uint64(b[0x1F8:]), le.Uint64(b[0x200:])
	}
	return m
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
	jwe, err := jose.ParseEncryptedJSON(string(a.body), []jose.KeyAlgorithm{g.alg}, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return "", err
	}
	plain, err := jwe.Decrypt(g.private)
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
