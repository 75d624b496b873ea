// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/verify"
)

// Codes of Azure Attestation's errors.
const (
	codeParameter        = "InvalidParameter"
	codeOperation        = "InvalidOperation"
	codePolicyParsing    = "PolicyParsingError"
	codePolicyEvaluation = "PolicyEvaluationError"
	codeUnauthorized     = "Unauthorized"
	codeForbidden        = "Forbidden"
	codeUnavailable      = "ServiceUnavailable"
	codeInternal         = "InternalServerError"
)

// failure is an error as clients see it: its code and its message as Azure Attestation has them, and beside them what that
// service does not tell.
type failure struct {
	status int

	Code    string   `json:"code"`
	Message string   `json:"message"`
	Details []detail `json:"details,omitempty"`
	Inner   *inner   `json:"innererror,omitempty"`
}

// detail is one check of the evidence that did not pass.
type detail struct {
	Code     string `json:"code"`
	Target   string `json:"target"`
	Message  string `json:"message"`
	Expected string `json:"expected,omitempty"`
	Actual   string `json:"actual,omitempty"`
	Fix      string `json:"fix,omitempty"`
}

// inner says what became of the evidence, and which rule of the policy decided.
type inner struct {
	Outcome   verify.Outcome `json:"outcome"`
	Simulated bool           `json:"simulated"`
	Rule      string         `json:"rule,omitempty"`
}

// Error implements error.
func (f *failure) Error() string { return f.Code + ": " + f.Message }

func refuse(status int, code, format string, args ...any) *failure {
	return &failure{status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error writes an error in the protocol's form. It is a serve.ErrorFunc, for what the frame itself refuses.
func Error(w http.ResponseWriter, _ *http.Request, status int, code, message string) {
	write(w, &failure{status: status, Code: code, Message: message})
}

// denied answers whoever may not administer.
func denied(w http.ResponseWriter, _ *http.Request, status int, message string) {
	code := codeUnauthorized
	switch status {
	case http.StatusForbidden:
		code = codeForbidden
	case http.StatusServiceUnavailable:
		code = codeUnavailable
	}
	write(w, &failure{status: status, Code: code, Message: message})
}

func write(w http.ResponseWriter, f *failure) {
	serve.WriteError(w, f.status, "application/json; charset=utf-8", f.Code, map[string]*failure{"error": f})
}

// fail answers with an error. Whatever is not the client's to know is logged instead.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, err error) {
	f := classify(err)
	if f.status >= http.StatusInternalServerError && f.Inner == nil && r.Context().Err() == nil {
		h.opts.Log.Error("a request failed", slog.String("id", serve.RequestID(r.Context())), slog.Any("error", err))
	}
	write(w, f)
}

// classify says how an error is answered.
func classify(err error) *failure {
	var own *failure
	var request *attestsvc.RequestError
	var refused *attestsvc.RefusedError
	var policy *attestsvc.PolicyError
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &request):
		return refuse(http.StatusBadRequest, codeParameter, "%s", request.Message)
	case errors.As(err, &refused):
		return refusal(refused)
	case errors.As(err, &policy) && policy.Syntax():
		return refuse(http.StatusBadRequest, codePolicyParsing, "the policy is malformed at %v", policy)
	case errors.As(err, &policy):
		return refuse(http.StatusBadRequest, codePolicyEvaluation, "%v", policy)
	case errors.Is(err, attestsvc.ErrSigner):
		return refuse(http.StatusBadRequest, codeOperation, "%v", err)
	case errors.As(err, &large):
		return refuse(http.StatusRequestEntityTooLarge, serve.CodeTooLarge, "the body has more than %d bytes", large.Limit)
	case errors.Is(err, store.ErrUnavailable), errors.Is(err, store.ErrConflict), errors.Is(err, audit.ErrClosed), errors.Is(err, audit.ErrUnavailable),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return refuse(http.StatusServiceUnavailable, codeUnavailable, "the service can not answer now; try again")
	}
	return refuse(http.StatusInternalServerError, codeInternal, "the request could not be handled; the operator finds it in the log by its ID")
}

// refusal is the answer for evidence that was not accepted. When what is missing is the vendors' collateral, a later try may
// succeed, and the status says so.
func refusal(e *attestsvc.RefusedError) *failure {
	f := refuse(http.StatusBadRequest, codeParameter, "%v", e)
	f.Inner = &inner{e.Verdict.Outcome, e.Verdict.Simulated, e.Verdict.Rule}
	if len(e.Failures) == 0 {
		f.Code = codePolicyEvaluation
	}
	collateral := false
	for _, c := range e.Failures {
		f.Details = append(f.Details, detail{string(c.Code), string(c.Name), c.Title, c.Expected, c.Actual, c.Fix})
		collateral = collateral || strings.HasPrefix(string(c.Code), "COLLATERAL_")
	}
	if collateral && e.Verdict.Outcome == verify.Undecided {
		f.status, f.Code = http.StatusServiceUnavailable, codeUnavailable
	}
	return f
}
