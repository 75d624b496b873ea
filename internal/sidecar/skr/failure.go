// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"cofferdam.dev/release"
)

// Codes of errors, for programs.
const (
	codeInvalid     = "invalid-request"
	codeNoRoute     = "no-such-endpoint"
	codeNoEvidence  = "no-evidence"
	codeInternal    = "internal"
	codeTimeout     = "timeout"
	codeUnwrap      = "unwrap-failed"
	codeWrongAnswer = "wrong-answer"

	codeAttestationRefused     = "attestation-refused"
	codeAttestationUnavailable = "attestation-unavailable"
	codeVaultUnauthorized      = "vault-unauthorized"
	codeVaultForbidden         = "vault-forbidden"
	codeVaultNotFound          = "vault-not-found"
	codeVaultRefused           = "vault-refused"
	codeVaultUnavailable       = "vault-unavailable"
	codeIdentityRefused        = "identity-refused"
	codeIdentityUnavailable    = "identity-unavailable"
	codeUnavailable            = "server-unavailable"
)

// failure is an error as clients see it.
type failure struct {
	status  int
	code    string
	message string
	// release is the vault's ID of a release that it refused, or empty.
	release string
}

// Error implements error.
func (f *failure) Error() string { return f.message }

func invalid(format string, args ...any) error {
	return &failure{status: http.StatusBadRequest, code: codeInvalid, message: fmt.Sprintf(format, args...)}
}

// failureOf says what clients see of an error. What a server of the outside said about status 401, 403 and 404 is passed on
// as such, with a code that names the server; all else that was refused is 403, as clients of the sidecar know it.
func failureOf(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[*release.Error](err); ok {
		status, code := statusOf(e)
		return &failure{status: status, code: code, message: err.Error(), release: e.Release}
	}
	for _, c := range []struct {
		is     error
		status int
		code   string
	}{
		{release.ErrRequest, http.StatusBadRequest, codeInvalid},
		{release.ErrEvidence, http.StatusForbidden, codeNoEvidence},
		{release.ErrAnswer, http.StatusBadGateway, codeWrongAnswer},
		{context.DeadlineExceeded, http.StatusGatewayTimeout, codeTimeout},
		{context.Canceled, http.StatusGatewayTimeout, codeTimeout},
		{release.ErrUnavailable, http.StatusServiceUnavailable, codeUnavailable},
	} {
		if errors.Is(err, c.is) {
			return &failure{status: c.status, code: c.code, message: err.Error()}
		}
	}
	return &failure{status: http.StatusInternalServerError, code: codeInternal, message: err.Error()}
}

// statusOf is what a server's refusal becomes.
func statusOf(e *release.Error) (status int, code string) {
	if errors.Is(e, release.ErrUnavailable) {
		return http.StatusServiceUnavailable, map[release.Server]string{
			release.AttestationService: codeAttestationUnavailable, release.KeyVault: codeVaultUnavailable, release.IdentityProvider: codeIdentityUnavailable,
		}[e.Server]
	}
	switch e.Server {
	case release.KeyVault:
		switch e.Status {
		case http.StatusUnauthorized:
			return e.Status, codeVaultUnauthorized
		case http.StatusForbidden:
			return e.Status, codeVaultForbidden
		case http.StatusNotFound:
			return e.Status, codeVaultNotFound
		}
		return http.StatusForbidden, codeVaultRefused
	case release.IdentityProvider:
		return http.StatusForbidden, codeIdentityRefused
	case release.AttestationService:
	}
	return http.StatusForbidden, codeAttestationRefused
}
