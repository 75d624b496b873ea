// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/attestationcmd"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/internal/vault/releasepolicy"
)

// policyTest is the document behind `key policy test -o json`.
type policyTest struct {
	Schema string `json:"schema"`
	// Verified is false always: nobody's signature was looked at.
	Verified bool                   `json:"verified"`
	Outcome  *releasepolicy.Outcome `json:"outcome"`
}

func (a *App) keyPolicyTestCommand() *cobra.Command {
	var claims, issuer string
	c := &cobra.Command{
		Use:   "test POLICY|- --claims FILE",
		Short: "Say whether a release policy is satisfied by claims, and why",
		Long: `Evaluate a release policy, without a vault, for a token of an attestation service or for
claims in JSON, and show each condition with what it expects and what the claim is. A
token's signature is not verified: the vault does that before it looks at the policy.

The issuer is the claim iss, unless --issuer says another.

Exits with 3 when the policy is not satisfied.`,
		Example: `  cofferdam attestation request evidence.json --service https://attest.example > token
  cofferdam key policy test release.json --claims token
  cofferdam key policy test release.json --claims claims.json --issuer attest.example`,
		Args: console.Arguments(1, 1, "one policy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if claims == "" {
				return console.Usage(cmd, "--claims is missing: a file with a token, or with claims in JSON")
			}
			if claims == "-" && args[0] == "-" {
				return console.Usage(cmd, "standard input can not be the policy and the claims")
			}
			p, err := a.readReleasePolicy(args[0])
			if err != nil {
				return err
			}
			known, err := a.readClaims(claims)
			if err != nil {
				return err
			}
			if issuer == "" {
				issuer, _ = known["iss"].(string) // without one no authority matches
			}
			v := policyTest{"cofferdam.dev/release-policy-test/v1", false, p.Evaluate(issuer, known)}
			if err := a.Answer(v, func(w io.Writer) error { return writeOutcome(w, v.Outcome) }); err != nil {
				return err
			}
			if !v.Outcome.Satisfied {
				return console.Quiet(console.ExitRefused)
			}
			return nil
		},
	}
	c.Flags().StringVar(&claims, "claims", "", "file with a token or with a JSON object of claims, - for standard input")
	c.Flags().StringVar(&issuer, "issuer", "", "issuer of the claims, instead of the claim iss")
	a.OutputFlag(c)
	return c
}

// readClaims reads a JSON object of claims, or the payload of a token.
func (a *App) readClaims(name string) (releasepolicy.Claims, error) {
	b, err := console.ReadLimited(name, a.In, attestationcmd.MaxClaims)
	if err != nil {
		return nil, fmt.Errorf("reading the claims: %w", err)
	}
	text := bytes.TrimSpace(b)
	if !bytes.HasPrefix(text, []byte("{")) {
		parts := strings.Split(string(text), ".")
		if len(parts) != 3 {
			return nil, fmt.Errorf("reading the claims: %s is neither a token nor a JSON object", name)
		}
		if text, err = base64.RawURLEncoding.DecodeString(parts[1]); err != nil {
			return nil, fmt.Errorf("reading the claims: the payload of the token %s is no base64url", name)
		}
	}
	known, err := releasepolicy.ParseClaims(text)
	if err == nil && known == nil {
		err = errors.New("it is no JSON object")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return known, nil
}

// writeOutcome shows what each condition of a policy came to.
func writeOutcome(w io.Writer, o *releasepolicy.Outcome) error {
	verdict := map[bool]string{true: "satisfied", false: "not satisfied"}
	issuer := plain.Printable(o.Issuer)
	if issuer == "" {
		issuer = "nobody"
	}
	if _, err := fmt.Fprintf(w, "%s, for claims of %s\n", verdict[o.Satisfied], issuer); err != nil {
		return err
	}
	for _, one := range o.Authorities {
		is := "it made the claims"
		if !one.Matches {
			is = "it did not make the claims"
		}
		if _, err := fmt.Fprintf(w, "\n%s: authority %s: %s\n", one.Path, plain.Printable(one.Authority), is); err != nil {
			return err
		}
		rows := [][]string{{"", "CLAIM", "OPERATOR", "EXPECTED", "ACTUAL", "WHERE"}}
		if err := console.Table(w, outcomeRows(rows, &one.Condition)); err != nil {
			return err
		}
	}
	return nil
}

// outcomeRows adds a row for each comparison below a condition.
func outcomeRows(rows [][]string, r *releasepolicy.Result) [][]string {
	if r.Combine != "" {
		for i := range r.List {
			rows = outcomeRows(rows, &r.List[i])
		}
		return rows
	}
	actual := r.Actual
	switch {
	case actual == "":
		actual = "missing"
	case r.Problem != "":
		actual += " (" + r.Problem + ")"
	}
	holds := map[bool]string{true: "holds", false: "fails"}[r.Satisfied]
	return append(rows, []string{
		holds, plain.Printable(r.Claim), string(r.Operator), plain.Printable(r.Expected), plain.Printable(actual), plain.Printable(r.Path),
	})
}
