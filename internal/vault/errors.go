// SPDX-License-Identifier: Apache-2.0

package vault

import "fmt"

// Code says what kind of refusal an error is.
type Code string

// The codes. Their texts are those of Azure Key Vault where it has one.
const (
	BadParameter   Code = "BadParameter"
	KeyNotFound    Code = "KeyNotFound"
	SecretNotFound Code = "SecretNotFound"
	// CounterNotFound is ours.
	CounterNotFound Code = "CounterNotFound"
	// Conflict is a name that a deleted object still has.
	Conflict Code = "Conflict"
	// Disabled is an object that is disabled, expired or not yet valid.
	Disabled Code = "Disabled"
	// Denied is a release that the policy, or the attestation, does not permit.
	Denied Code = "AccessDenied"
	// NotPermitted is an operation that the key's own list does not have.
	NotPermitted Code = "NotPermitted"
	// Protected is a purge before its time in a vault that does not permit it.
	Protected Code = "PurgeProtected"
)

// Error is a refusal. Its message may be shown to whoever asked.
type Error struct {
	Code Code
	// SKR is the number of the error among those of secure key release, or zero.
	SKR     int
	Message string
	// Release is the ID of a release that was denied, under which an operator finds the reasons.
	Release string
}

// Error implements error.
func (e *Error) Error() string {
	if e.SKR != 0 {
		return fmt.Sprintf("AKV.SKR.%d: %s", e.SKR, e.Message)
	}
	return e.Message
}

// Is reports whether target is an *Error with the same code and number.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && t.SKR == e.SKR
}

// Errors of keys with release policies.
var (
	ErrExportableUnsupported = &Error{Code: BadParameter, SKR: 1001, Message: "The exportable attribute is only supported with premium vaults and API version >= '7.3-preview'."}
	ErrExportableFixed       = &Error{Code: BadParameter, SKR: 1003, Message: "The exportable attribute of an existing key cannot be changed."}
	ErrPolicyMissing         = &Error{Code: BadParameter, SKR: 1004, Message: "Exportable keys must have release policy."}
	ErrPolicyUnexpected      = &Error{Code: BadParameter, SKR: 1005, Message: "Non-exportable keys must not have release policy."}
	ErrExportableSoftware    = &Error{Code: BadParameter, SKR: 1006, Message: "Only HSM keys can be exportable."}
	ErrPolicyVersioned       = &Error{Code: BadParameter, SKR: 1016, Message: "Key Release Policy can only be set on versionless key."}
	ErrPolicyImmutable       = &Error{Code: BadParameter, SKR: 1020, Message: "Immutable Key Release Policy cannot be modified."}
)

func bad(format string, args ...any) *Error {
	return &Error{Code: BadParameter, Message: fmt.Sprintf(format, args...)}
}

func (c class) notFound(name, version string) *Error {
	code, what := KeyNotFound, "key"
	if c == secrets {
		code, what = SecretNotFound, "secret"
	}
	id := name
	if version != "" {
		id += "/" + version
	}
	return &Error{Code: code, Message: fmt.Sprintf("A %s with (name/id) %s was not found in this key vault. If you recently deleted this %s you may be able to recover it using the correct recovery command.", what, id, what)}
}

func (c class) deleted(name string) *Error {
	return &Error{Code: Conflict, Message: fmt.Sprintf("The %s %s is deleted but recoverable: its name can not be used again until it is recovered or purged.", c, name)}
}
