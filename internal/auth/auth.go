// SPDX-License-Identifier: Apache-2.0

// Package auth says who sends a request to a service: by a client certificate, by a bearer token of an OpenID provider, or
// by a token that lies in a file of the operator.
//
// It trusts the certificate authorities, issuers and files that it was configured with. Nobody has a role but by a rule:
// without configuration nobody has any. Tokens never reach logs or errors.
package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
)

// Role is what somebody may do. Services define theirs.
type Role string

// Identity is who sent a request.
type Identity struct {
	// Method is how it was established: "certificate", "oidc" or "file".
	Method string `json:"method"`
	// Issuer is who vouches for Subject: the authority's name, the provider's URL, or the file's name.
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
	Roles   []Role `json:"roles"`
}

// Has reports whether the identity has the role. Nobody has none.
func (i *Identity) Has(r Role) bool { return i != nil && r != "" && slices.Contains(i.Roles, r) }

// String names the identity for logs and the audit.
func (i *Identity) String() string {
	if i == nil {
		return "nobody"
	}
	return fmt.Sprintf("%s %q of %q", i.Method, i.Subject, i.Issuer)
}

// Errors of Authenticate.
var (
	// ErrNoCredentials says that the request has no credentials of the kind that an authenticator takes.
	ErrNoCredentials = errors.New("the request has no credentials")
	// ErrCredentials says that it has, and that they are not good.
	ErrCredentials = errors.New("the credentials are not good")
	// ErrUnavailable says that credentials could not be checked now.
	ErrUnavailable = errors.New("the credentials can not be checked now")
)

// Authenticator finds out who sent a request.
type Authenticator interface {
	Authenticate(r *http.Request) (*Identity, error)
}

// All asks authenticators in turn. The first that finds credentials of its kind decides. Without any it finds nobody.
type All []Authenticator

// Authenticate implements Authenticator.
func (a All) Authenticate(r *http.Request) (*Identity, error) {
	for _, one := range a {
		id, err := one.Authenticate(r)
		if !errors.Is(err, ErrNoCredentials) {
			return id, err
		}
	}
	return nil, ErrNoCredentials
}

type identityKey struct{}

// From returns who sent the request that the context belongs to, or nil.
func From(ctx context.Context) *Identity {
	id, _ := ctx.Value(identityKey{}).(*Identity) // nil when there is none
	return id
}

// Failure answers a request that may not go on. Status is 401, 403 or 503.
type Failure func(w http.ResponseWriter, r *http.Request, status int, message string)

// Require lets requests through to h whose sender has one of the roles, and puts the identity into their context.
func Require(a Authenticator, fail Failure, h http.Handler, roles ...Role) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := a.Authenticate(r)
		switch {
		case errors.Is(err, ErrUnavailable):
			fail(w, r, http.StatusServiceUnavailable, "who you are can not be established now; try again")
		case err != nil:
			w.Header().Set("WWW-Authenticate", `Bearer realm="cofferdam"`)
			fail(w, r, http.StatusUnauthorized, err.Error())
		case !slices.ContainsFunc(roles, id.Has):
			fail(w, r, http.StatusForbidden, fmt.Sprintf("%s has none of the roles %q", id, roles))
		default:
			h.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), identityKey{}, id)))
		}
	})
}

// maxToken bounds a bearer token in bytes.
const maxToken = 16 << 10

// Bearer returns the request's bearer token, for authenticators of other packages. The error wraps ErrNoCredentials or
// ErrCredentials.
func Bearer(r *http.Request) (string, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return "", ErrNoCredentials
	}
	scheme, value, _ := strings.Cut(values[0], " ")
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || value == "" || len(value) > maxToken {
		return "", fmt.Errorf("%w: want one header Authorization: Bearer TOKEN", ErrCredentials)
	}
	return value, nil
}
