// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"cofferdam.dev/internal/vault/wrap"
)

// DefaultVaultVersion is the API version of key vaults that is asked for.
const DefaultVaultVersion = "7.4"

// DefaultFormat is the format in which keys are asked for.
const DefaultFormat = string(wrap.RSAAESKeyWrap256)

// Formats that only the vault of this module knows. A key pair for them is made in no time, and what is released in the
// second stays secret as long as one of its two halves does, also from those who will have quantum computers.
const (
	FormatECDH   = string(wrap.HPKEECDH)
	FormatHybrid = string(wrap.HPKEHybrid)
)

// Formats are the names of the formats in which keys can be asked for.
func Formats() []string {
	return []string{DefaultFormat, string(wrap.RSAAESKeyWrap384), string(wrap.CKMRSAAESKeyWrap), FormatECDH, FormatHybrid}
}

// Vault is a key vault or a managed HSM.
type Vault struct {
	// Endpoint is its host name or URL.
	Endpoint string
	// HTTP makes the connections, and says whom to trust as a server.
	HTTP *http.Client
	// Roots are the authorities whose certificates may sign the vault's answers; nil are the system's.
	Roots *x509.CertPool
	// Version is the API version; empty is DefaultVaultVersion.
	Version string
	// UserAgent is sent with requests when it is not empty.
	UserAgent string
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Release asks for a key, showing an attestation service's token over the runtime data of the wrapping key. AccessToken
// says who asks; it may be empty where the vault does not want to know. Format is one of Formats.
func (v *Vault) Release(ctx context.Context, name KeyName, token string, to *WrappingKey, accessToken, format string) (*Key, error) {
	k, err := v.release(ctx, name, token, to, accessToken, format)
	if err != nil {
		return nil, fmt.Errorf("having key %s released: %w", name, err)
	}
	return k, nil
}

func (v *Vault) release(ctx context.Context, name KeyName, token string, to *WrappingKey, accessToken, format string) (*Key, error) {
	e, secret, err := v.released(ctx, &expected{kind: keyKind, name: name, enc: format}, token, to, accessToken)
	if err != nil {
		return nil, err
	}
	return openKey(&e.Response.Key.Key, secret)
}

// ReleaseSecret asks for a secret in the same way. Azure's vaults release keys alone.
func (v *Vault) ReleaseSecret(ctx context.Context, name KeyName, token string, to *WrappingKey, accessToken, format string) (*Secret, error) {
	e, value, err := v.released(ctx, &expected{kind: secretKind, name: name, enc: format}, token, to, accessToken)
	if err != nil {
		return nil, fmt.Errorf("having secret %s released: %w", name, err)
	}
	d := &e.Response.Secret.Secret
	return &Secret{id: d.ID, contentType: d.ContentType, value: value}, nil
}

// released asks for an object and opens the answer, once it holds.
func (v *Vault) released(ctx context.Context, want *expected, token string, to *WrappingKey, accessToken string) (*envelope, []byte, error) {
	if _, err := ParseKeyName(want.name.String()); err != nil {
		return nil, nil, err
	}
	if !slices.Contains(Formats(), want.enc) {
		return nil, nil, malformed("the format %q is unknown", clean(want.enc))
	}
	u, err := ParseEndpoint(v.Endpoint)
	if err != nil {
		return nil, nil, err
	}
	want.vault, want.nonce, want.roots, want.now = u, rand.Text(), v.Roots, v.now()
	body, err := json.Marshal(map[string]string{"target": token, "enc": want.enc, "nonce": want.nonce})
	if err != nil {
		return nil, nil, err
	}
	answer, err := v.ask(ctx, u, http.MethodPost, "/"+string(want.kind)+"/"+want.name.String()+"/release", accessToken, body)
	if err != nil {
		return nil, nil, err
	}
	var value struct {
		Value string `json:"value"`
	}
	if json.Unmarshal(answer, &value) != nil || value.Value == "" {
		return nil, nil, wrong("there is no value in it")
	}
	e, ciphertext, err := verifyAnswer(value.Value, want)
	if err != nil {
		return nil, nil, err
	}
	secret, err := to.Open(want.enc, ciphertext)
	if err != nil {
		return nil, nil, wrong("%v", err)
	}
	return e, secret, nil
}

// Secret returns the value of a secret, for callers whose secrets are wrapped by a key that is released.
func (v *Vault) Secret(ctx context.Context, name KeyName, accessToken string) (string, error) {
	s, err := v.secret(ctx, name, accessToken)
	if err != nil {
		return "", fmt.Errorf("getting secret %s: %w", name, err)
	}
	return s, nil
}

func (v *Vault) secret(ctx context.Context, name KeyName, accessToken string) (string, error) {
	if _, err := ParseKeyName(name.String()); err != nil {
		return "", err
	}
	u, err := ParseEndpoint(v.Endpoint)
	if err != nil {
		return "", err
	}
	answer, err := v.ask(ctx, u, http.MethodGet, "/secrets/"+name.String(), accessToken, nil)
	if err != nil {
		return "", err
	}
	var value struct {
		Value *string `json:"value"`
	}
	if json.Unmarshal(answer, &value) != nil || value.Value == nil {
		return "", wrong("there is no value in it")
	}
	return *value.Value, nil
}

func (v *Vault) ask(ctx context.Context, u *url.URL, method, path, accessToken string, body []byte) ([]byte, error) {
	if v.HTTP == nil {
		return nil, malformed("no HTTP client is configured for the vault")
	}
	h := http.Header{}
	if body != nil {
		h.Set("Content-Type", "application/json")
	}
	if accessToken != "" {
		h.Set("Authorization", "Bearer "+accessToken)
	}
	if v.UserAgent != "" {
		h.Set("User-Agent", v.UserAgent)
	}
	version := v.Version
	if version == "" {
		version = DefaultVaultVersion
	}
	target := u.String() + path + "?api-version=" + url.QueryEscape(version)
	return ask(ctx, v.HTTP, &request{server: KeyVault, method: method, url: target, header: h, body: body})
}

func (v *Vault) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}
