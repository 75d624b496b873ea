// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"cofferdam.dev/internal/retry"
)

// What went wrong for good. Errors of this package and those that build on it wrap one of these where a caller decides by it.
var (
	// ErrFenced says that the stored object is not the one that was opened any more, or that another writer may have it. It
	// is for ever: nothing that was read can be combined with anything that would be read now.
	ErrFenced = errors.New("the stored object was changed by someone else, or the lease on it is lost")
	// ErrBusy says that another writer has the object.
	ErrBusy = errors.New("another writer has it")
	// ErrDenied says that the server did not take the credentials.
	ErrDenied = errors.New("access was denied")
	// ErrNotFound says that there is no such object.
	ErrNotFound = errors.New("there is no such object")
	// ErrExists says that there is such an object already.
	ErrExists = errors.New("the object exists already")
	// ErrRefused says that the object or the server can not be used: no ranges, no version to pin, another kind of object.
	ErrRefused = errors.New("it can not be used as a volume")
)

// Error is a request that failed. It names neither query nor headers nor body.
type Error struct {
	// Doing and Where are what was asked for, as in "reading 4096 bytes at 8192", and the URL without its query.
	Doing, Where string
	// Status and Code are the answer's, if there was one. Code is the service's own, at most 64 letters and digits.
	Status int
	Code   string
	// Wait is how long the server asked to wait before another attempt.
	Wait time.Duration
	// Temporary says that another attempt may succeed.
	Temporary bool
	// Applied says that the request may have taken effect, or may do so later.
	Applied bool
	// Err is the reason, and may wrap one of the errors above.
	Err error
}

// Error says what failed and why.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s", e.Doing, e.Where)
	if e.Status != 0 {
		fmt.Fprintf(&b, ": answer %d", e.Status)
	}
	if e.Code != "" {
		fmt.Fprintf(&b, " %s", e.Code)
	}
	if e.Err != nil {
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns the reason.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether another attempt may succeed.
func Temporary(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Temporary
}

// refuse makes an error of an answer whose status is not a wanted one.
func refuse(doing, where string, status int, code string, h http.Header, now time.Time) *Error {
	e := &Error{Doing: doing, Where: where, Status: status, Code: code}
	switch {
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		e.Err = ErrDenied
	case status == http.StatusNotFound || status == http.StatusGone:
		e.Err = ErrNotFound
	case status == http.StatusPreconditionFailed:
		e.Err = ErrFenced
	case status >= 300 && status < 400:
		e.Err = fmt.Errorf("redirects are not followed: %w", ErrRefused)
	case status == http.StatusOK:
		e.Err = fmt.Errorf("the server ignores ranges: %w", ErrRefused)
	case status == http.StatusRequestTimeout || status == http.StatusTooManyRequests || status >= 500 && status != http.StatusNotImplemented:
		e.Temporary, e.Wait = true, retry.After(h, now)
		e.Applied = status != http.StatusTooManyRequests // 503 is busy with most, but proxies send it after the fact
	}
	return e
}

// PlainCode keeps a service's code only if it is a short word: it comes from whom we do not trust, and goes into logs.
func PlainCode(code string) string {
	if len(code) > 64 {
		return ""
	}
	for _, c := range code {
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return ""
		}
	}
	return code
}
