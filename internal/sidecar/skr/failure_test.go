// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"cofferdam.dev/internal/serve"
	"cofferdam.dev/release"
)

// TestFailureOf gives every error of the client its status and code, here and in gRPC.
func TestFailureOf(t *testing.T) {
	t.Parallel()
	of := func(s release.Server, status int) error {
		return fmt.Errorf("doing: %w", &release.Error{Server: s, Host: "h", Status: status, Code: "C", Message: "M"})
	}
	for _, c := range []struct {
		err    error
		status int
		code   string
		grpc   codes.Code
	}{
		{of(release.KeyVault, 401), 401, codeVaultUnauthorized, codes.Unauthenticated},
		{of(release.KeyVault, 403), 403, codeVaultForbidden, codes.PermissionDenied},
		{of(release.KeyVault, 404), 404, codeVaultNotFound, codes.NotFound},
		{of(release.KeyVault, 400), 403, codeVaultRefused, codes.PermissionDenied},
		{of(release.KeyVault, 409), 403, codeVaultRefused, codes.PermissionDenied},
		{of(release.KeyVault, 429), 503, codeVaultUnavailable, codes.Unavailable},
		{of(release.KeyVault, 500), 503, codeVaultUnavailable, codes.Unavailable},
		{of(release.AttestationService, 400), 403, codeAttestationRefused, codes.PermissionDenied},
		{of(release.AttestationService, 401), 403, codeAttestationRefused, codes.PermissionDenied},
		{of(release.AttestationService, 404), 403, codeAttestationRefused, codes.PermissionDenied},
		{of(release.AttestationService, 503), 503, codeAttestationUnavailable, codes.Unavailable},
		{of(release.IdentityProvider, 400), 403, codeIdentityRefused, codes.PermissionDenied},
		{of(release.IdentityProvider, 401), 403, codeIdentityRefused, codes.PermissionDenied},
		{of(release.IdentityProvider, 500), 503, codeIdentityUnavailable, codes.Unavailable},
		{fmt.Errorf("x: %w", release.ErrRequest), 400, codeInvalid, codes.InvalidArgument},
		{fmt.Errorf("x: %w: %w", release.ErrEvidence, errFire), 403, codeNoEvidence, codes.FailedPrecondition},
		{fmt.Errorf("x: %w", release.ErrAnswer), 502, codeWrongAnswer, codes.Unavailable},
		{fmt.Errorf("x: %w", release.ErrUnavailable), 503, codeUnavailable, codes.Unavailable},
		{fmt.Errorf("x: %w: %w", release.ErrUnavailable, context.DeadlineExceeded), 504, codeTimeout, codes.DeadlineExceeded},
		{context.Canceled, 504, codeTimeout, codes.DeadlineExceeded},
		{errors.New("x"), 500, codeInternal, codes.Internal},
		{fmt.Errorf("x: %w", &failure{status: http.StatusForbidden, code: codeUnwrap, message: "m"}), 403, codeUnwrap, codes.PermissionDenied},
	} {
		f := failureOf(c.err)
		if f.status != c.status || f.code != c.code || f.message == "" || grpcCode(f) != c.grpc {
			t.Errorf("%v: %d %s %v; want %d %s %v", c.err, f.status, f.code, grpcCode(f), c.status, c.code, c.grpc)
		}
	}
}

// TestTooLarge answers in the sidecar's form also where the frame bounds the body.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	s := offline(t)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 10)
		s.ServeHTTP(w, r)
	})
	a := call(t, h, "/attest/raw", `{"runtime_data":"AAAA"}`)
	if a.status != http.StatusRequestEntityTooLarge || a.text("code") != serve.CodeTooLarge {
		t.Error(a)
	}
	rec := httptest.NewRecorder()
	Error(rec, nil, http.StatusServiceUnavailable, serve.CodeOverloaded, "busy")
	if rec.Code != http.StatusServiceUnavailable || rec.Body.String() != `{"code":"Overloaded","error":"busy"}` {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

// TestCodesDocumented holds the reference to the codes.
func TestCodesDocumented(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("failure.go")
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "reference", "release-sidecar.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\tcode\w+ += "([a-z-]+)"`).FindAllStringSubmatch(string(source), -1)
	if len(found) < 15 {
		t.Fatalf("only %d codes are found", len(found))
	}
	for _, m := range found {
		if !strings.Contains(string(page), "`"+m[1]+"`") {
			t.Errorf("the reference has no code %s", m[1])
		}
	}
	s := offline(t)
	for path := range s.routes {
		if !strings.Contains(string(page), path+"`") {
			t.Errorf("the reference has no endpoint %s", path)
		}
	}
}
