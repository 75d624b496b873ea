// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/cli/console"
)

// AuditCommand returns `audit` with all that is below it.
func (a *App) AuditCommand() *cobra.Command {
	return console.Noun("audit", "Check what a service recorded", a.auditVerifyCommand())
}

// auditAnswer is the document behind `audit verify -o json`.
type auditAnswer struct {
	Schema string `json:"schema"`
	audit.Summary
}

func (a *App) auditVerifyCommand() *cobra.Command {
	var keys []string
	c := &cobra.Command{
		Use:   "verify DIR|FILE... --key FILE",
		Short: "Check that an audit log was not changed",
		Long: `Check an audit log offline: that each line follows the one before it, and that the
checkpoints were signed by a key that you trust. Give the log's directory, or its files
in their order, and the public key of the service (PEM; a certificate will do).

What holds is everything up to the last checkpoint. Lines after it, and an end that was
cut off, can only be noticed by who has a later receipt: compare "head" with yours.

Exits with 3, and names file and line, when the log does not hold.`,
		Example: `  cofferdam audit verify /var/lib/cofferdam/audit --key audit-key.pem
  cofferdam audit verify 00000001.jsonl 00000002.jsonl --key audit-key.pem -o json`,
		Args: console.Arguments(1, 10000, "a directory, or files"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(keys) == 0 {
				return console.Usage(cmd, "--key is missing: without the service's public key, anybody could have written the log")
			}
			s, err := verifyAudit(args, keys)
			if err != nil {
				return err
			}
			return a.Answer(auditAnswer{"cofferdam.dev/audit-summary/v1", *s}, func(w io.Writer) error { return writeAudit(w, s) })
		},
	}
	c.Flags().StringArrayVar(&keys, "key", nil, "PEM file of a public key or certificate that signs checkpoints; may be given several times")
	a.OutputFlag(c)
	return c
}

func verifyAudit(names, keyFiles []string) (*audit.Summary, error) {
	var keys []*ecdsa.PublicKey
	for _, f := range keyFiles {
		k, err := readPublicKey(f)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	v, err := audit.NewVerifier(keys, nil)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(names[0]); err == nil && info.IsDir() {
		if len(names) > 1 {
			return nil, errors.New("give one directory, or files: a log lies in one directory")
		}
		if names, err = audit.Files(names[0]); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		err = errors.Join(v.File(name, f), f.Close())
		var line *audit.LineError
		if errors.As(err, &line) {
			return nil, &console.Failure{Code: console.ExitRefused, Err: line, Fix: "everything before this line holds as far as a checkpoint covers it; the log was changed here or later"}
		}
		if err != nil {
			return nil, err
		}
	}
	return v.Summary()
}

// readPublicKey reads an ECDSA key from a PEM file with a public key or a certificate.
func readPublicKey(name string) (*ecdsa.PublicKey, error) {
	b, err := console.ReadLimited(name, nil, console.MaxPEM)
	if err != nil {
		return nil, fmt.Errorf("reading the key: %w", err)
	}
	var key any
	switch block, _ := pem.Decode(b); {
	case block == nil:
		err = errors.New("it is no PEM file")
	case block.Type == "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block.Type == "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	case strings.Contains(block.Type, "PRIVATE"):
		err = errors.New("it holds a private key; give the public one")
	default:
		err = fmt.Errorf("it holds a %q, not a public key or a certificate", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the key: %s: %w", name, err)
	}
	ec, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("reading the key: %s holds a %T, not an ECDSA key", name, key)
	}
	return ec, nil
}

func writeAudit(w io.Writer, s *audit.Summary) error {
	begins := "with the first line"
	if !s.Complete {
		begins = fmt.Sprintf("with line %d: what was before is not here", s.First)
	}
	unsigned := "none"
	if s.Unsigned > 0 {
		unsigned = fmt.Sprintf("%d lines after the last checkpoint could still be changed", s.Unsigned)
	}
	pairs := [][2]string{
		{"log", "it holds"}, {"instance", s.Instance}, {"begins", begins},
		{"lines", fmt.Sprintf("%d, from %s to %s", s.Last-s.First+1, s.From.UTC().Format(time.RFC3339), s.Until.UTC().Format(time.RFC3339))},
		{"checkpoints", fmt.Sprint(s.Checkpoints)}, {"unsigned", unsigned}, {"head", fmt.Sprintf("%d %s", s.Head.Sequence, s.Head.Hash)},
	}
	var kinds []string
	for k := range s.Kinds {
		kinds = append(kinds, k)
	}
	slices.Sort(kinds)
	for _, k := range kinds {
		pairs = append(pairs, [2]string{k, fmt.Sprint(s.Kinds[k])})
	}
	return console.Facts(w, pairs...)
}
