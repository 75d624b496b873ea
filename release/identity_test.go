// SPDX-License-Identifier: Apache-2.0

package release

import (
	"bytes"
	"context"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// refuseReleases has the vault refuse all releases, and counts them.
func refuseReleases(d *double) *atomic.Int32 {
	var n atomic.Int32
	d.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/release") {
			return false
		}
		n.Add(1)
		w.WriteHeader(http.StatusForbidden)
		return true
	}
	return &n
}

func TestManagedIdentity(t *testing.T) {
	t.Parallel()
	var got *http.Request
	answer := `{"access_token":"secret-token","expires_in":"3600","expires_on":"` + fmt.Sprint(time.Now().Add(time.Hour).Unix()) + `"}`
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = w.Write([]byte(answer))
	}))
	t.Cleanup(s.Close)
	for name, c := range map[string]struct {
		m      ManagedIdentity
		query  string
		header map[string]string
	}{
		"machine":         {ManagedIdentity{URL: s.URL}, "api-version=2018-02-01&resource=https%3A%2F%2Fvault.azure.net", map[string]string{"Metadata": "true", "Secret": ""}},
		"one of several":  {ManagedIdentity{URL: s.URL, ClientID: "c"}, "api-version=2018-02-01&client_id=c&resource=https%3A%2F%2Fvault.azure.net", map[string]string{"Metadata": "true"}},
		"container group": {ManagedIdentity{URL: s.URL + "?api-version=2019-07-01", Secret: "s", PrincipalID: "p"}, "api-version=2019-07-01&principalId=p&resource=https%3A%2F%2Fvault.azure.net", map[string]string{"Metadata": "", "Secret": "s"}},
	} {
		t.Run(name, func(t *testing.T) {
			c.m.HTTP = s.Client()
			tok, err := c.m.AccessToken(t.Context(), "https://vault.azure.net")
			if err != nil || tok.Value != "secret-token" || time.Until(tok.Expires) < 50*time.Minute {
				t.Fatal(tok.Expires, err)
			}
			if got.URL.RawQuery != c.query {
				t.Errorf("query %s, want %s", got.URL.RawQuery, c.query)
			}
			for k, v := range c.header {
				if got.Header.Get(k) != v {
					t.Errorf("header %s is %q, want %q", k, got.Header.Get(k), v)
				}
			}
		})
	}
	for _, bad := range []string{`{}`, `x`, `{"access_token":"a\nb"}`} {
		answer = bad
		if _, err := (&ManagedIdentity{URL: s.URL, HTTP: s.Client()}).AccessToken(t.Context(), "r"); !errors.Is(err, ErrAnswer) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestWorkloadIdentity(t *testing.T) {
	t.Parallel()
	d := newDouble(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("assertion\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/tenant/oauth2/v2.0/token" {
			t.Errorf("path %s", r.URL.Path)
		}
		if r.FormValue("client_assertion") != "assertion" || r.FormValue("scope") != "https://vault.azure.net/.default" || r.FormValue("client_id") != "client" {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":"invalid_client","error_description":"AADSTS700024"}`))
			return true
		}
		_, _ = w.Write([]byte(`{"access_token":"secret-token","expires_in":3599}`))
		return true
	}
	w := &WorkloadIdentity{TenantID: "tenant", ClientID: "client", TokenFile: file, Login: d.URL + "/", HTTP: NewHTTPClient(d.roots)}
	tok, err := w.AccessToken(t.Context(), "https://vault.azure.net")
	if err != nil || tok.Value != "secret-token" || time.Until(tok.Expires) < 50*time.Minute {
		t.Error(tok.Expires, err)
	}
	w.ClientID = "other"
	if _, err := w.AccessToken(t.Context(), "https://vault.azure.net"); !errors.Is(err, ErrUnauthorized) || !contains(err.Error(), "AADSTS700024") || contains(err.Error(), "assertion") {
		t.Error(err)
	}
	w.TokenFile = filepath.Join(t.TempDir(), "absent")
	if _, err := w.AccessToken(t.Context(), "r"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// counting is a credential that counts.
type counting struct{ n atomic.Int32 }

// AccessToken returns a new token for each call.
func (c *counting) AccessToken(_ context.Context, resource string) (AccessToken, error) {
	return AccessToken{Value: fmt.Sprintf("%s#%d", resource, c.n.Add(1)), Expires: time.Now().Add(time.Hour)}, nil
}

// TestAudience gets tokens for what the vault says, if the vault may say that, and replaces one that is not taken.
func TestAudience(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		header string
		want   string
	}{
		"itself":           {`Bearer authorization="https://login/x", resource="https://localhost"`, ""},
		"a scope":          {`bearer authorization="https://login/x", scope="https://localhost/.default"`, ""},
		"somebody else":    {`Bearer authorization="https://login/x", resource="https://vault.azure.net"`, "in whose domain it is not"},
		"a whole top":      {`Bearer resource="https://host"`, "in whose domain it is not"},
		"not https":        {`Bearer resource="http://localhost"`, "in whose domain it is not"},
		"nothing":          {``, "does not say"},
		"another scheme":   {`Basic resource="https://localhost"`, "does not say"},
		"no such resource": {`Bearer authorization="https://login/x"`, "does not say"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, cred := newDouble(t), &counting{}
			seen := map[string]int{}
			d.intercept = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasPrefix(r.URL.Path, "/attest") {
					return false
				}
				who := r.Header.Get("Authorization")
				d.mu.Lock()
				seen[who]++
				d.mu.Unlock()
				if who == "Bearer https://localhost#2" {
					return false // the first is not taken
				}
				w.Header().Set("WWW-Authenticate", c.header)
				w.WriteHeader(http.StatusUnauthorized)
				return true
			}
			cl := d.client(func(o *Options) { o.Credential = Cached(cred) })
			r := d.request("oct")
			r.AccessToken = ""
			r.Vault = strings.Replace(d.host(), "127.0.0.1", "localhost", 1)
			d.payload = func(p map[string]any) {
				k := p["response"].(map[string]any)["key"].(map[string]any)["key"].(map[string]any)
				k["kid"] = "https://localhost/keys/oct/1"
			}
			for range 2 {
				_, err := cl.Release(t.Context(), r)
				if (err == nil) != (c.want == "") || err != nil && !contains(err.Error(), c.want) {
					t.Fatalf("%v; want %q", err, c.want)
				}
			}
			if c.want != "" && cred.n.Load() != 0 {
				t.Error("a token was got")
			}
			if c.want == "" && (cred.n.Load() != 2 || seen["Bearer https://localhost#2"] != 2 || seen[""] != 1) {
				t.Errorf("%d tokens were got, and sent: %v", cred.n.Load(), seen)
			}
		})
	}
	d, cred := newDouble(t), &counting{}
	d.intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/keys" {
			_, _ = w.Write([]byte(`{"value":[]}`))
			return true
		}
		return false
	}
	r := d.request("oct")
	r.AccessToken = ""
	if _, err := d.client(func(o *Options) { o.Credential = Cached(cred) }).Release(t.Context(), r); err != nil || cred.n.Load() != 0 {
		t.Errorf("a vault that does not ask who asks: %d tokens, %v", cred.n.Load(), err)
	}
	for _, host := range []string{"a.vault.azure.net", "a.managedhsm.azure.net"} {
		u, err := ParseEndpoint(host)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := (&Vault{}).audience(t.Context(), u); err != nil || got != "https://"+host[2:] {
			t.Errorf("%s: %s, %v", host, got, err)
		}
	}
}

// TestNothingPrints prints everything that holds a secret in every way, and finds none.
func TestNothingPrints(t *testing.T) {
	t.Parallel()
	w, err := NewWrappingKey(2048)
	if err != nil {
		t.Fatal(err)
	}
	k := &Key{id: "id", kind: KindOct, oct: []byte("hush-hush")}
	rsaKey := &Key{id: "id", kind: KindRSA, private: testSigner(t)}
	for _, v := range []any{w, k, rsaKey, AccessToken{Value: "hush-hush"}, &Secret{id: "id", value: []byte("hush-hush")}, []any{k}, map[string]any{"a": AccessToken{Value: "hush-hush"}}} {
		var all strings.Builder
		for _, f := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			fmt.Fprintf(&all, f+"\n", v)
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
		if s := all.String(); contains(s, "hush") || contains(s, "68757368") || contains(s, testSigner(t).D.String()) || contains(s, w.private.(*rsa.PrivateKey).D.String()) {
			t.Errorf("%T prints its secret: %s", v, s)
		}
	}
}

func TestDerive(t *testing.T) {
	t.Parallel()
	k := &Key{kind: KindRSA, private: testSigner(t)}
	a, err := k.Derive([]byte("salt"), "")
	if err != nil {
		t.Fatal(err)
	}
	same, err := k.Derive([]byte("salt"), DerivationLabel)
	if err != nil || string(a) != string(same) || len(a) != 32 {
		t.Errorf("%x, %x, %v", a, same, err)
	}
	for _, c := range [][2]string{{"salt", "label"}, {"other", ""}} {
		if b, err := k.Derive([]byte(c[0]), c[1]); err != nil || string(a) == string(b) {
			t.Errorf("%v derives the same", c)
		}
	}
	// RFC 5869, A.1, cut to 32 bytes.
	k.private = &rsa.PrivateKey{D: new(big.Int).SetBytes(bytes.Repeat([]byte{0x0b}, 22))}
	vector, err := k.Derive([]byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9")
	if err != nil || fmt.Sprintf("%x", vector) != "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf" {
		t.Errorf("%x, %v", vector, err)
	}
	if _, err := (&Key{kind: KindOct, oct: []byte("x")}).Derive(nil, ""); err == nil {
		t.Error("derived from a symmetric key")
	}
}

func TestPool(t *testing.T) {
	t.Parallel()
	p, err := NewPool(2, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); p.Len() < 2 && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	seen := map[string]bool{}
	for range 4 { // more than the pool has
		k, err := p.Take()
		if err != nil || seen[k.ID()] {
			t.Fatalf("%v was given twice, %v", k, err)
		}
		seen[k.ID()] = true
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, size := range []int{0, -1, MaxPool + 1} {
		if _, err := NewPool(size, 0); !errors.Is(err, ErrRequest) {
			t.Errorf("a pool of %d: %v", size, err)
		}
	}
	if _, err := NewWrappingKey(1024); !errors.Is(err, ErrRequest) {
		t.Error(err)
	}
}
