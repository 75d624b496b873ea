// SPDX-License-Identifier: Apache-2.0

package attestationcmd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/maapolicy"
	"cofferdam.dev/internal/plain"
)

// AttestationCommand returns `attestation` with all that is below it.
func (a *App) AttestationCommand() *cobra.Command {
	return console.Noun("attestation", "Work with what an attestation service decides by",
		a.attestationRequestCommand(), a.attestationSignerCommand(),
		console.Noun("policy", "Check, try, test and set policies of an attestation service",
			a.attestationLintCommand(), a.attestationExplainCommand(), a.attestationTestCommand(),
			a.attestationGetCommand(), a.attestationSetCommand(), a.attestationResetCommand()))
}

// maapolicyHelp is what the help of each of these commands says about the language.
const maapolicyHelp = `The language is that of Azure Attestation, versions 1.0 to 1.2: rules over claims that
permit or deny, and rules that add claims to the token.`

// readAttestationPolicy reads and parses a policy. A mistake in it is a refusal that names line and column.
func (a *App) readAttestationPolicy(name string) (*maapolicy.Policy, error) {
	text, err := console.ReadLimited(name, a.In, maapolicy.MaxSize)
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	p, err := maapolicy.Parse(text)
	var syntax *maapolicy.SyntaxError
	if errors.As(err, &syntax) {
		return nil, &console.Failure{Code: console.ExitRefused, Err: fmt.Errorf("%s:%w", name, err)}
	}
	return p, err
}

// attestationLint is the document behind `attestation policy lint -o json`.
type attestationLint struct {
	Schema   string              `json:"schema"`
	Version  maapolicy.Version   `json:"version"`
	Warnings []maapolicy.Warning `json:"warnings"`
}

func (a *App) attestationLintCommand() *cobra.Command {
	var strict bool
	c := &cobra.Command{
		Use:   "lint FILE|-",
		Short: "Check the syntax of a policy, and find what can not be meant",
		Long: `Check a policy without any evidence: its syntax, with line and column of a mistake, and
what is odd about it, such as a rule that permits everything or a form that only some
services take.

` + maapolicyHelp + `

Exits with 3 for a policy with a mistake, and with --strict for one with anything odd,
too.`,
		Example: `  cofferdam attestation policy lint policy.txt
  cofferdam attestation policy lint --strict policy.txt`,
		Args: console.Arguments(1, 1, "one policy"),
		RunE: func(_ *cobra.Command, args []string) error {
			p, err := a.readAttestationPolicy(args[0])
			if err != nil {
				return err
			}
			v := attestationLint{"cofferdam.dev/attestation-policy-lint/v1", p.Version(), append([]maapolicy.Warning{}, p.Lint()...)}
			err = a.Answer(v, func(w io.Writer) error {
				if len(v.Warnings) == 0 {
					_, err := fmt.Fprintf(w, "a policy of version %s; nothing found\n", v.Version)
					return err
				}
				for _, one := range v.Warnings {
					if _, err := fmt.Fprintf(w, "%s:%s\n", args[0], plain.Printable(one.String())); err != nil {
						return err
					}
				}
				return nil
			})
			if err == nil && strict && len(v.Warnings) > 0 {
				return console.Quiet(console.ExitRefused)
			}
			return err
		},
	}
	c.Flags().BoolVar(&strict, "strict", false, "exit with 3 when anything is found")
	a.OutputFlag(c)
	return c
}

// attestationExplanation is the document behind `attestation policy explain -o json`.
type attestationExplanation struct {
	Schema     string            `json:"schema"`
	Permitted  bool              `json:"permitted"`
	Reason     string            `json:"reason"`
	Issued     map[string]any    `json:"issued,omitempty"`
	Properties map[string]any    `json:"properties,omitempty"`
	Rules      []maapolicy.Trace `json:"rules"`
}

func (a *App) attestationExplainCommand() *cobra.Command {
	var claims string
	c := &cobra.Command{
		Use:   "explain FILE|- --claims FILE",
		Short: "Apply a policy to claims and say which rule decided, and why",
		Long: `Apply a policy to claims and show each rule: whether it fired, and if not, which
condition did not hold and what the nearest claim was. The claims are a JSON object,
such as the body of a token that the service issued.

` + maapolicyHelp + `

Exits with 3 when the policy does not permit.`,
		Example: `  cofferdam attestation policy explain policy.txt --claims claims.json`,
		Args:    console.Arguments(1, 1, "one policy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if claims == "" {
				return console.Usage(cmd, "--claims is missing: a file with a JSON object of claims")
			}
			p, err := a.readAttestationPolicy(args[0])
			if err != nil {
				return err
			}
			b, err := console.ReadLimited(claims, nil, MaxClaims)
			if err != nil {
				return fmt.Errorf("reading the claims: %w", err)
			}
			object, err := claimsObject(b)
			if err != nil {
				return fmt.Errorf("reading the claims: %s: %w", claims, err)
			}
			v, err := explainAttestation(cmd.Context(), p, object)
			if err != nil {
				return &console.Failure{Code: console.ExitRefused, Err: err}
			}
			if err = a.Answer(v, v.write); err == nil && !v.Permitted {
				return console.Quiet(console.ExitRefused)
			}
			return err
		},
	}
	c.Flags().StringVar(&claims, "claims", "", "file with the claims: a JSON object")
	a.OutputFlag(c)
	return c
}

// MaxClaims bounds a file of claims.
const MaxClaims = 1 << 20

// claimsObject decodes one JSON object, numbers as they are written.
func claimsObject(b []byte) (map[string]any, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	var object map[string]any
	if err := dec.Decode(&object); err != nil {
		return nil, err
	}
	if object == nil {
		return nil, errors.New("it is no JSON object")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON object")
	}
	return object, nil
}

func explainAttestation(ctx context.Context, p *maapolicy.Policy, object map[string]any) (*attestationExplanation, error) {
	known, err := maapolicy.ClaimsOf(object)
	if err != nil {
		return nil, err
	}
	out, err := p.Evaluate(ctx, known)
	if err != nil {
		return nil, err
	}
	v := &attestationExplanation{
		Schema: "cofferdam.dev/attestation-policy-explanation/v1", Permitted: out.Permitted, Reason: out.Reason(),
		Issued: out.Object(), Properties: map[string]any{}, Rules: append([]maapolicy.Trace{}, out.Traces...),
	}
	for _, c := range out.Properties {
		v.Properties[c.Type] = c.Value.JSON()
	}
	return v, nil
}

func (v *attestationExplanation) write(w io.Writer) error {
	var b strings.Builder
	verdict := map[bool]string{true: "permitted", false: "not permitted"}[v.Permitted]
	fmt.Fprintf(&b, "%s: %s\n", verdict, v.Reason)
	for _, t := range v.Rules {
		fired := map[bool]string{true: "fires", false: "does not fire"}[t.Fired]
		fmt.Fprintf(&b, "\n%s, rule at %s: %s %s\n", t.Section, t.Position, t.Action, fired)
		for _, c := range t.Conditions {
			if c.Held {
				fmt.Fprintf(&b, "  condition at %s holds (%d claims)\n", c.Position, c.Matched)
			} else {
				fmt.Fprintf(&b, "  condition at %s does not hold: %s\n", c.Position, c.Why)
			}
		}
	}
	if len(v.Issued) > 0 {
		text, err := json.MarshalIndent(v.Issued, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "\nissued: %s\n", text)
	}
	_, err := io.WriteString(w, plain.Drawing(b.String()))
	return err
}
