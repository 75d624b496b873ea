// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"errors"
	"fmt"
	"net/http"

	"cofferdam.dev/internal/serve"
)

// Codes of errors, as Azure Resource Manager and the service have them.
const (
	codeNotFound       = "ResourceNotFound"
	codeBadContent     = "InvalidRequestContent"
	codeConflict       = "Conflict"
	codeTransitioning  = "ContainerGroupTransitioning"
	codeNotRunning     = "ContainerGroupNotRunning"
	codeNoContainer    = "ContainerNotFound"
	codeInternal       = "InternalServerError"
	codeUnavailable    = "ServiceUnavailable"
	codePolicy         = "CcePolicyRefused"
	codeDeployment     = "ContainerGroupDeploymentFailed"
	codeOperationLost  = "OperationInterrupted"
	codeNoOperation    = "OperationNotFound"
	codeVersionMissing = "MissingApiVersionParameter"
	codeVersionUnknown = "NoRegisteredProviderFound"
)

// armError is an error in the form of Azure Resource Manager.
type armError struct {
	status  int
	Code    string     `json:"code"`
	Message string     `json:"message"`
	Target  string     `json:"target,omitempty"`
	Details []armError `json:"details,omitempty"`
}

// Error implements error.
func (e *armError) Error() string { return e.Code + ": " + e.Message }

// errorBody is the body of an answer.
type errorBody struct {
	Error *armError `json:"error"`
}

func failure(status int, code, target, format string, args ...any) *armError {
	return &armError{status: status, Code: code, Target: target, Message: fmt.Sprintf(format, args...)}
}

func badRequest(code, target, format string, args ...any) *armError {
	return failure(http.StatusBadRequest, code, target, format, args...)
}

func notFound(id resourceID) *armError {
	return failure(http.StatusNotFound, codeNotFound, "", "The resource %q under resource group %q was not found.", resourceType+"/"+id.Name, id.ResourceGroup)
}

func transitioning(id resourceID, kind string) *armError {
	return failure(http.StatusConflict, codeTransitioning, "", "The container group %q is still transitioning (%s), try again later.", id.Name, kind)
}

// write answers with the error.
func (e *armError) write(w http.ResponseWriter) {
	w.Header().Set("X-Ms-Error-Code", e.Code)
	serve.WriteError(w, e.status, "application/json; charset=utf-8", e.Code, errorBody{e})
}

// asArm is an error as it is answered: what was not meant for the caller is only said to have happened.
func asArm(err error) *armError {
	var e *armError
	if errors.As(err, &e) {
		return e
	}
	return failure(http.StatusInternalServerError, codeInternal, "", "The request could not be handled; the operator finds it in the log by its ID.")
}

// Error answers with an error of the frame that requests come through (package serve).
func Error(w http.ResponseWriter, _ *http.Request, status int, code, message string) {
	failure(status, code, "", "%s", message).write(w)
}

// Refusal says that a group can not be started as it is described, and in what.
type Refusal struct {
	// Policy is true when the policy that the description brings does not admit what it asks for.
	Policy  bool
	Message string
	// Details are further sentences, one for each thing.
	Details []string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }
