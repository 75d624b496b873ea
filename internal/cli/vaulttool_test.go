// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cofferdam.dev/internal/token"
)

// askVault is the script command `askvault STATE WHO METHOD PATH [BODY]`: it asks the vault whose state lies in the directory, as
// "operator", as "nobody", or as the client of that name, with a body from a file or in JSON, and prints status and answer.
func askVault() {
	if len(os.Args) < 5 {
		fatalf("usage: askvault STATE WHO METHOD PATH [BODY]")
	}
	if err := ask(os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5:]); err != nil {
		fatalf("%v", err)
	}
}

func ask(state, who, method, path string, rest []string) error {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(state, name))
		if err != nil {
			fatalf("%v", err)
		}
		return strings.TrimSpace(string(b))
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(read("tls-certificate.pem")))
	client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	var body []byte
	for _, b := range rest {
		body = []byte(b)
		if !strings.HasPrefix(b, "{") {
			var err error
			if body, err = os.ReadFile(b); err != nil {
				return err
			}
		}
	}
	address := read("address")
	req, err := http.NewRequest(method, address+path, bytes.NewReader(body)) //nolint:noctx // ends by its timeout
	if err != nil {
		return err
	}
	switch who {
	case "nobody":
	case "operator":
		req.Header.Set("Authorization", "Bearer "+read("admin-token"))
	default:
		t, err := signIn(client, address, who, read(filepath.Join("clients", who+".secret")))
		if err != nil {
			return err
		}
		req.Header.Set("Authorization", "Bearer "+t)
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // read below
	answer, err := io.ReadAll(resp.Body)
	fmt.Printf("%d %s\n%s\n", resp.StatusCode, strings.TrimSpace(string(answer)), resp.Header.Get("WWW-Authenticate"))
	return err
}

func signIn(client *http.Client, address, id, secret string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}, "scope": {address + "/.default"}}
	resp, err := client.PostForm(address+"/development/oauth2/v2.0/token", form) //nolint:noctx // ends by its timeout
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }() // read below
	var answer struct {
		Token string `json:"access_token"`
		Error string `json:"error"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Token == "" {
		return "", fmt.Errorf("no token: %s, %w", answer.Error, err)
	}
	return answer.Token, nil
}

// makeTarget is the script command `mktarget ISSUER KEYS BODY CLAIM=VALUE…`: it writes the key set of an attestation service, and the
// body of a request for a release with one of its tokens.
func makeTarget() {
	if len(os.Args) < 4 {
		fatalf("usage: mktarget ISSUER KEYS BODY CLAIM=VALUE...")
	}
	if err := target(os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		fatalf("%v", err)
	}
}

func target(issuer, keysFile, bodyFile string, pairs []string) error {
	now := time.Now()
	key, err := token.Generate(token.RS256, "attest", now, now.Add(time.Hour), now.Add(2*time.Hour))
	if err != nil {
		return err
	}
	set, err := token.JWKS([]token.PublicKey{key.Public()}, now)
	if err != nil {
		return err
	}
	guest, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	enc := base64.RawURLEncoding.EncodeToString
	claims := map[string]any{
		"iss": issuer, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"x-ms-runtime": map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "kid": "guest", "use": "enc", "n": enc(guest.N.Bytes()), "e": enc(big.NewInt(int64(guest.E)).Bytes()),
		}}},
	}
	for _, p := range pairs {
		name, value, _ := strings.Cut(p, "=")
		claims[name] = value
		if value == "true" {
			claims[name] = true
		}
	}
	signed, err := key.Sign(claims, nil)
	if err != nil {
		return err
	}
	body, err := json.Marshal(map[string]string{"target": signed})
	if err != nil {
		return err
	}
	if err := os.WriteFile(bodyFile, body, 0o600); err != nil {
		return err
	}
	return os.WriteFile(keysFile, set, 0o600)
}
