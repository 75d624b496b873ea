// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/authority"
)

// Codes of Azure Key Vault's errors.
const (
	codeParameter    = "BadParameter"
	codeUnauthorized = "Unauthorized"
	codeForbidden    = "Forbidden"
	codeConflict     = "Conflict"
	codeMethod       = "MethodNotAllowed"
	codeUnavailable  = "ServiceUnavailable"
	codeInternal     = "InternalError"
)

// Codes of inner errors.
const (
	innerDenied   = "AccessDenied"
	innerDisabled = "KeyDisabled"
	innerSecret   = "SecretDisabled"
	innerNot      = "KeyOperationForbidden"
)

// ReleaseHeader carries the ID of a release in its answer, also of a refused one: under it the operator finds the reasons,
// which the answer does not tell.
const ReleaseHeader = "X-Cofferdam-Release"

// failure is an error as clients see it.
type failure struct {
	status  int
	release string

	Code    string `json:"code"`
	Message string `json:"message"`
	Inner   *inner `json:"innererror,omitempty"`
}

type inner struct {
	Code string `json:"code"`
}

// Error implements error.
func (f *failure) Error() string { return f.Code + ": " + f.Message }

func refuse(status int, code, format string, args ...any) *failure {
	return &failure{status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

func bad(format string, args ...any) *failure {
	return refuse(http.StatusBadRequest, codeParameter, format, args...)
}

func forbidden(innerCode, format string, args ...any) *failure {
	f := refuse(http.StatusForbidden, codeForbidden, format, args...)
	f.Inner = &inner{innerCode}
	return f
}

// Error writes an error in the protocol's form. It is a serve.ErrorFunc, for what the frame itself refuses.
func Error(w http.ResponseWriter, _ *http.Request, status int, code, message string) {
	write(w, &failure{status: status, Code: code, Message: message})
}

func write(w http.ResponseWriter, f *failure) {
	if f.release != "" {
		w.Header().Set(ReleaseHeader, f.release)
	}
	serve.WriteError(w, f.status, "application/json; charset=utf-8", f.Code, map[string]*failure{"error": f})
}

// fail answers with an error. Whatever is not the client's to know is logged instead.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := classify(err)
	if f.Inner != nil && f.Inner.Code == innerDisabled && strings.HasPrefix(r.URL.Path, "/secrets/") {
		f.Inner.Code = innerSecret
	}
	if f.status >= http.StatusInternalServerError && r.Context().Err() == nil {
		h.opts.Log.Error("a request failed", slog.String("id", serve.RequestID(r.Context())), slog.Any("error", err))
	}
	write(w, f)
}

// classify says how an error is answered.
func classify(err error) *failure {
	var own *failure
	var refusal *vault.Error
	var large *http.MaxBytesError
	switch {
	// What could not be recorded did not happen, whatever the other reason was.
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrConflict), errors.Is(err, audit.ErrClosed),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return refuse(http.StatusServiceUnavailable, codeUnavailable, "The service can not answer now; try again.")
	case errors.Is(err, authority.ErrUnavailable):
		return refuse(http.StatusServiceUnavailable, codeUnavailable, "The keys of the token's issuer are not available now; try again.")
	case errors.As(err, &own):
		return own
	case errors.As(err, &refusal):
		return refused(refusal)
	case errors.As(err, &large):
		return refuse(http.StatusRequestEntityTooLarge, serve.CodeTooLarge, "The body has more than %d bytes.", large.Limit)
	}
	return refuse(http.StatusInternalServerError, codeInternal, "The request could not be handled; the operator finds it in the log by its ID.")
}

// refused says how a refusal of the vault is answered.
func refused(e *vault.Error) *failure {
	status, code, innerCode := http.StatusBadRequest, string(e.Code), ""
	switch e.Code {
	case vault.BadParameter:
	case vault.KeyNotFound, vault.SecretNotFound, vault.CounterNotFound:
		status = http.StatusNotFound
	case vault.Conflict:
		status, code = http.StatusConflict, codeConflict
	case vault.Disabled:
		status, code, innerCode = http.StatusForbidden, codeForbidden, innerDisabled
	case vault.NotPermitted:
		status, code, innerCode = http.StatusForbidden, codeForbidden, innerNot
	case vault.Denied, vault.Protected:
		status, code, innerCode = http.StatusForbidden, codeForbidden, innerDenied
	}
	f := refuse(status, code, "%s", e.Error())
	f.release = e.Release
	if innerCode != "" {
		f.Inner = &inner{innerCode}
	}
	return f
}
