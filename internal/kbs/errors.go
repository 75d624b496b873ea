// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/vault/authority"
)

// Kind says what kind of refusal an error is, in the words of the protocol's reference implementation where it has one.
type Kind string

// The kinds.
const (
	// AttestationError is a handshake that failed.
	AttestationError Kind = "AttestationError"
	// TokenNotFound is a request for a resource without a session or a token.
	TokenNotFound Kind = "TokenNotFound"
	// TokenVerifierError is a token that is not good.
	TokenVerifierError Kind = "TokenVerifierError" //nolint:gosec // it is a name
	// PolicyDeny is a guest that does not get a resource.
	PolicyDeny Kind = "PolicyDeny"
	// ResourceNotFound is a resource that is not there.
	ResourceNotFound Kind = "ResourceNotFound"
	// InvalidRequestPath is a path that names nothing.
	InvalidRequestPath Kind = "InvalidRequestPath"
	// Invalid is a resource that can not be kept as it is.
	Invalid Kind = "InvalidResource"
	// Conflict is a resource that can not be set now.
	Conflict Kind = "Conflict"
	// ParsePolicyError is a document of rules that can not be read.
	ParsePolicyError Kind = "ParsePolicyError"
	// Undecided is evidence about which something could not be found out now.
	Undecided Kind = "Undecided"
)

// Refusal is an error that whoever asked may see.
type Refusal struct {
	Kind   Kind
	Detail string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Detail }

func refuse(kind Kind, format string, args ...any) *Refusal {
	return &Refusal{kind, fmt.Sprintf(format, args...)}
}

// errorPrefix is before the kind of an error: clients tell errors apart by it.
const errorPrefix = "https://github.com/confidential-containers/kbs/errors/"

// answerError writes an error in the protocol's form.
func answerError(w http.ResponseWriter, status int, kind, detail string) {
	serve.WriteError(w, status, "application/problem+json", kind, map[string]string{"type": errorPrefix + kind, "detail": detail})
}

// Error writes an error in the protocol's form. It is a serve.ErrorFunc, for what the frame itself refuses.
func Error(w http.ResponseWriter, _ *http.Request, status int, code, message string) {
	answerError(w, status, code, message)
}

// denied answers whoever may not administer. The protocol has one status for it.
func denied(w http.ResponseWriter, _ *http.Request, status int, message string) {
	if status == http.StatusForbidden {
		status = http.StatusUnauthorized
	}
	answerError(w, status, "AdminAuthAccess", message)
}

// statuses are those of the protocol: 401 has a guest attest again, anything else does not.
var statuses = map[Kind]int{
	AttestationError: http.StatusUnauthorized, TokenNotFound: http.StatusUnauthorized, TokenVerifierError: http.StatusUnauthorized,
	PolicyDeny: http.StatusForbidden, ResourceNotFound: http.StatusNotFound, InvalidRequestPath: http.StatusNotFound,
	Invalid: http.StatusBadRequest, Conflict: http.StatusConflict, ParsePolicyError: http.StatusBadRequest, Undecided: http.StatusServiceUnavailable,
}

// fail answers with an error. Whatever is not the client's to know is logged instead.
func (h *Handler) fail(c *call, err error) {
	var refusal *Refusal
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &refusal):
		detail := refusal.Detail
		if id := serve.RequestID(c.r.Context()); id != "" {
			detail += " (request " + id + ")"
		}
		answerError(c.w, statuses[refusal.Kind], string(refusal.Kind), detail)
		return
	case errors.As(err, &large):
		answerError(c.w, http.StatusRequestEntityTooLarge, serve.CodeTooLarge, fmt.Sprintf("the body has more than %d bytes", large.Limit))
		return
	}
	if c.r.Context().Err() == nil {
		h.log.Error("a request failed", slog.String("id", serve.RequestID(c.r.Context())), slog.Any("error", err))
	}
	if errors.Is(err, authority.ErrUnavailable) || errors.Is(err, store.ErrUnavailable) || errors.Is(err, store.ErrConflict) || errors.Is(err, audit.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		answerError(c.w, http.StatusServiceUnavailable, serve.CodeUnavailable, "the broker can not answer now; try again")
		return
	}
	answerError(c.w, http.StatusInternalServerError, serve.CodeInternal, "the request could not be handled; the operator finds it in the log by its ID")
}
