// SPDX-License-Identifier: Apache-2.0

package attest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// SGXRoot is where library operating systems such as Gramine offer quotes to programs in an SGX enclave.
const SGXRoot = "/dev/attestation"

// sgxTypeDCAP is the only attestation type that has a verifier.
const sgxTypeDCAP = "dcap"

// SGX obtains quotes of the enclave that the program runs in.
type SGX struct {
	root string
	fs   entries
	// turn holds one token: the files belong to the whole enclave, so two requests must not mix.
	turn chan struct{}
}

var _ Provider = (*SGX)(nil)

// OpenSGX returns a provider that uses the files in root, normally SGXRoot. It fails when there are none, or when the
// enclave was not set up for DCAP quotes.
func OpenSGX(root string) (*SGX, error) {
	s := &SGX{root: root, fs: osEntries{}, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	if err := s.probe(); err != nil {
		return nil, fmt.Errorf("opening SGX attestation files: %w", err)
	}
	return s, nil
}

// probe reads nothing that costs a quote.
func (s *SGX) probe() error {
	if err := s.fs.Exists(s.name("user_report_data")); err != nil {
		return err
	}
	kind, err := s.fs.ReadFile(s.name("attestation_type"), maxAttribute)
	if errors.Is(err, fs.ErrNotExist) { // older than the file; the quote's own version will tell
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading attestation type: %w", err)
	}
	if got := strings.TrimSpace(string(kind)); got != sgxTypeDCAP {
		return fmt.Errorf("attestation type of the enclave is %q, not %q", got, sgxTypeDCAP)
	}
	return nil
}

func (s *SGX) name(file string) string { return filepath.Join(s.root, file) }

// Kind returns "sgx".
func (s *SGX) Kind() string { return KindSGX }

// Report returns a quote. A call that waits for another one ends with ctx; one in progress does not.
func (s *SGX) Report(ctx context.Context, reportData [64]byte) (*Result, error) {
	select {
	case <-s.turn:
		defer func() { s.turn <- struct{}{} }()
	case <-ctx.Done():
		return nil, fmt.Errorf("getting quote from %s: %w", s.root, ctx.Err())
	}
	if err := ctx.Err(); err != nil { // select takes either when both are ready
		return nil, fmt.Errorf("getting quote from %s: %w", s.root, err)
	}
	if err := s.fs.WriteFile(s.name("user_report_data"), reportData[:]); err != nil {
		return nil, fmt.Errorf("getting quote from %s: writing report data: %w", s.root, err)
	}
	quote, err := s.fs.ReadFile(s.name("quote"), maxBlob)
	if err != nil {
		return nil, fmt.Errorf("getting quote from %s: reading quote: %w", s.root, err)
	}
	if err := checkQuote(quote, quoteSGX, reportData); err != nil {
		return nil, fmt.Errorf("getting quote from %s: %w", s.root, err)
	}
	return &Result{Type: TypeSGX, Report: quote}, nil
}
