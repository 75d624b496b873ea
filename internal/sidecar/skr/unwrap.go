// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"context"
	"crypto/rsa"
	"crypto/sha1" //nolint:gosec // RSA-OAEP with SHA-1 is what HSMs wrap with; collisions do not matter to it
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"cofferdam.dev/internal/sidecar/config"
	"cofferdam.dev/internal/vault/wrap"
	"cofferdam.dev/release"
)

// Formats of wrapped secrets that are none of a release.
const (
	formatOAEP256 = "RSA-OAEP-256"
	formatOAEP    = "RSA-OAEP"
	formatKWP     = "AES_KEY_WRAP_PAD"
)

// unwrapFormats are all formats, for messages.
var unwrapFormats = append([]string{formatOAEP256, formatOAEP, formatKWP}, release.Formats()...)

// unwrap answers with a secret that was wrapped by a key in a vault: the key is released, and used here. What is wrapped is
// in the request, or is the value of a secret in a vault.
func (s *Server) unwrap(ctx context.Context, in fields) (any, error) {
	r, err := releaseRequest(in, "maa_endpoint", "akv_endpoint", "kid")
	if err != nil {
		return nil, err
	}
	format, err := in.text("format")
	if err != nil {
		return nil, err
	}
	secret, err := in.object("secret")
	if err != nil {
		return nil, err
	}
	if secret == nil {
		wrapped, err := in.bytes("wrapped")
		if err != nil {
			return nil, err
		}
		return s.open(ctx, r, format, wrapped)
	}
	if _, both := in["wrapped"]; both {
		return nil, invalid("wrapped and secret are both there: want one of them")
	}
	t, err := secret.texts("akv_endpoint", "name")
	if err != nil {
		return nil, err
	}
	return s.openSecret(ctx, r, format, t[0], t[1])
}

// unwrapSecret is the same as clean rooms ask for it.
func (s *Server) unwrapSecret(ctx context.Context, in fields) (any, error) {
	t, err := in.texts("akvEndpoint", "kid")
	if err != nil {
		return nil, err
	}
	kek, err := in.object("kek")
	if err != nil {
		return nil, err
	}
	if kek == nil {
		return nil, invalid("missing or empty: kek")
	}
	r, err := releaseRequest(kek, "maaEndpoint", "akvEndpoint", "kid")
	if err != nil {
		return nil, err
	}
	return s.openSecret(ctx, r, formatOAEP256, t[0], t[1])
}

func (s *Server) openSecret(ctx context.Context, r *release.Request, format, vault, name string) (any, error) {
	n, err := release.ParseKeyName(name)
	if err != nil {
		return nil, err
	}
	text, err := s.opts.Client.Secret(ctx, vault, n, r.AccessToken)
	if err != nil {
		return nil, err
	}
	wrapped, err := config.Base64(strings.TrimSpace(text))
	if err != nil {
		return nil, &failure{status: http.StatusForbidden, code: codeUnwrap, message: "the secret " + n.String() + " is no base64: it is not a wrapped one"}
	}
	return s.open(ctx, r, format, wrapped)
}

// open has the key released and opens what was wrapped.
func (s *Server) open(ctx context.Context, r *release.Request, format string, wrapped []byte) (any, error) {
	if format == "" {
		format = formatOAEP256
	}
	if !slices.Contains(unwrapFormats, format) {
		return nil, invalid("the format is unknown; want one of %s", strings.Join(unwrapFormats, ", "))
	}
	k, err := s.opts.Client.Release(ctx, r)
	if err != nil {
		return nil, err
	}
	b, err := openWith(k, format, wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(b)
	return map[string]string{"value": base64.StdEncoding.EncodeToString(b)}, nil
}

// openWith opens a wrapped secret. What can be wrong with it gives one and the same error.
func openWith(k *release.Key, format string, wrapped []byte) ([]byte, error) {
	if format == formatKWP {
		if k.Symmetric() == nil {
			return nil, invalid("%s needs a symmetric key, and %s is of kind %s", format, k.ID(), k.Kind())
		}
		b, err := wrap.OpenPadded(k.Symmetric(), wrapped)
		return opened(b, err)
	}
	p := k.RSA()
	if p == nil {
		return nil, invalid("%s needs an RSA key, and %s is of kind %s", format, k.ID(), k.Kind())
	}
	switch format {
	case formatOAEP256:
		b, err := rsa.DecryptOAEP(sha256.New(), nil, p, wrapped, nil)
		return opened(b, err)
	case formatOAEP:
		b, err := rsa.DecryptOAEP(sha1.New(), nil, p, wrapped, nil) //nolint:gosec // as above
		return opened(b, err)
	}
	b, err := wrap.OpenRSA(wrap.Enc(format), p, wrapped)
	return opened(b, err)
}

func opened(b []byte, err error) ([]byte, error) {
	if err != nil {
		return nil, &failure{status: http.StatusForbidden, code: codeUnwrap, message: "what was wrapped can not be opened with the key that was released"}
	}
	return b, nil
}
