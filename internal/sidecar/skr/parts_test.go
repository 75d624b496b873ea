// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"context"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/release"
)

func now() time.Time { return time.Now().Truncate(time.Second) }

// noReports is a source of reports that has none.
type noReports struct{}

// Kind names the source.
func (noReports) Kind() string { return "none" }

// Report fails.
func (noReports) Report(context.Context, [64]byte) (*attest.Result, error) { return nil, errFire }

// identity is a credential with one token.
type identity string

// AccessToken returns it.
func (i identity) AccessToken(context.Context, string) (release.AccessToken, error) {
	return release.AccessToken{Value: string(i)}, nil
}
