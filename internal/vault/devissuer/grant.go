// SPDX-License-Identifier: Apache-2.0

package devissuer

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"cofferdam.dev/internal/token"
)

// maxForm bounds the body of a request for a token in bytes.
const maxForm = 64 << 10

// Codes of errors of RFC 6749 §5.2.
const (
	codeRequest   = "invalid_request"
	codeClient    = "invalid_client"
	codeScope     = "invalid_scope"
	codeGrantType = "unsupported_grant_type"
	codeServer    = "server_error"
)

// ServeHTTP answers what lies below the tenant's path: metadata, keys, and requests for tokens. Paths are those of
// Azure's sign-in, of its first version ("resource") and its second ("scope").
func (i *Issuer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/"+i.opts.Tenant)
	get := r.Method == http.MethodGet || r.Method == http.MethodHead
	switch {
	case get && (path == "/v2.0/.well-known/openid-configuration" || path == "/.well-known/openid-configuration"):
		answer(w, http.StatusOK, i.metadata())
	case get && path == "/discovery/v2.0/keys":
		i.jwks(w)
	case path == "/oauth2/v2.0/token" || path == "/oauth2/token":
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", http.MethodPost)
			refuse(w, http.StatusMethodNotAllowed, codeRequest, "tokens are asked for by POST")
			return
		}
		i.grant(w, r)
	default:
		refuse(w, http.StatusNotFound, codeRequest, "there is no such endpoint")
	}
}

func (i *Issuer) metadata() map[string]any {
	at := i.Authority()
	return map[string]any{
		"issuer": i.Issuer(), "token_endpoint": at + "/oauth2/v2.0/token", "jwks_uri": at + "/discovery/v2.0/keys",
		// Clients refuse metadata without it; nobody can sign in there.
		"authorization_endpoint":                at + "/oauth2/v2.0/authorize",
		"grant_types_supported":                 []string{"client_credentials"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_post", "client_secret_basic"},
		"response_types_supported":              []string{"token"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{string(token.ES256)},
	}
}

func (i *Issuer) jwks(w http.ResponseWriter) {
	b, err := token.JWKS(i.published(), i.opts.Now())
	if err != nil {
		refuse(w, http.StatusInternalServerError, codeServer, "the keys can not be told")
		return
	}
	answer(w, http.StatusOK, json.RawMessage(b))
}

// grant answers a request for a token.
func (i *Issuer) grant(w http.ResponseWriter, r *http.Request) {
	form, ok := readForm(r)
	if !ok {
		refuse(w, http.StatusBadRequest, codeRequest, "the body is no form in which each parameter occurs once")
		return
	}
	if form.Get("grant_type") != "client_credentials" {
		refuse(w, http.StatusBadRequest, codeGrantType, "the one grant that there is is client_credentials")
		return
	}
	id, known, ok := i.identify(r, form)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Basic realm="cofferdam"`)
		refuse(w, http.StatusUnauthorized, codeClient, "the client is not known, or its secret is not right")
		return
	}
	audience, ok := i.audience(form)
	if !ok {
		refuse(w, http.StatusBadRequest, codeScope, "tokens are issued for the vault's resource alone: name it in the scope, followed by /.default")
		return
	}
	// Nothing rotates the key but requests: the first call makes a successor when it is time, the second begins to use it.
	err := errors.Join(i.ring.Rotate(r.Context()), i.ring.Rotate(r.Context()))
	if err != nil {
		refuse(w, http.StatusInternalServerError, codeServer, "the token can not be signed")
		return
	}
	now := i.opts.Now()
	signed, err := i.ring.Sign(token.ES256, claims{
		Issuer: i.Issuer(), Subject: id, Audience: audience, IssuedAt: now.Unix(), NotBefore: now.Unix(), Expires: now.Add(i.opts.Life).Unix(),
		ID: rand.Text(), Client: id, Tenant: i.opts.Tenant, Version: "2.0", Roles: known.roles, Development: true,
	}, "")
	if err != nil {
		refuse(w, http.StatusInternalServerError, codeServer, "the token can not be signed")
		return
	}
	seconds := int(i.opts.Life / time.Second)
	answer(w, http.StatusOK, map[string]any{
		"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": signed,
		"expires_on": now.Add(i.opts.Life).Unix(), "resource": audience,
	})
}

func readForm(r *http.Request) (url.Values, bool) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxForm+1))
	if err != nil || len(b) > maxForm {
		return nil, false
	}
	form, err := url.ParseQuery(string(b))
	if err != nil {
		return nil, false
	}
	for _, v := range form {
		if len(v) != 1 {
			return nil, false
		}
	}
	return form, true
}

// identify returns the client that a request proves itself to be, by the form or by the header, never by both.
func (i *Issuer) identify(r *http.Request, form url.Values) (string, client, bool) {
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if user, password, ok := r.BasicAuth(); ok {
		// RFC 6749 §2.3.1: both are form-encoded before they are put into the header.
		name, err1 := url.QueryUnescape(user)
		pass, err2 := url.QueryUnescape(password)
		if err1 != nil || err2 != nil || secret != "" || id != "" && id != name {
			return "", client{}, false
		}
		id, secret = name, pass
	}
	known, ok := i.clients[id] // a client that is not known has a secret that nobody has
	hash := sha256.Sum256([]byte(secret))
	same := subtle.ConstantTimeCompare(hash[:], known.secret[:]) == 1
	return id, known, ok && same
}

// audience returns the resource that a form asks for.
func (i *Issuer) audience(form url.Values) (string, bool) {
	want := form.Get("resource")
	for _, s := range strings.Fields(form.Get("scope")) {
		if rest, ok := strings.CutSuffix(s, "/.default"); ok && want == "" {
			want = rest
		}
	}
	at := slices.IndexFunc(i.opts.Audiences, func(a string) bool { return strings.TrimSuffix(a, "/") == strings.TrimSuffix(want, "/") })
	if want == "" || at < 0 {
		return "", false
	}
	return i.opts.Audiences[at], true
}

// refused is the body of an error.
type refused struct {
	Code        string `json:"error"`
	Description string `json:"error_description"`
}

func refuse(w http.ResponseWriter, status int, code, description string) {
	answer(w, status, refused{code, description})
}

func answer(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		http.Error(w, codeServer, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}

// mine reports whether a token says that it is of this issuer. It only chooses who judges it.
func (i *Issuer) mine(raw string) bool {
	parts := strings.Split(raw, ".")
	if len(parts) != 3 {
		return false
	}
	b, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var c struct {
		Issuer string `json:"iss"`
	}
	return json.NewDecoder(bytes.NewReader(b)).Decode(&c) == nil && c.Issuer == i.Issuer()
}

var _ http.Handler = (*Issuer)(nil)
