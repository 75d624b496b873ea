// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy/lint"
)

// lintAnswer is the document behind `policy lint -o json`.
type lintAnswer struct {
	Schema   string         `json:"schema"`
	Failed   bool           `json:"failed"`
	Findings []lint.Finding `json:"findings"`
}

// neverFails is the severity that no finding has.
const neverFails = "never"

func (a *App) policyLintCommand() *cobra.Command {
	var failOn string
	var ignore []string
	c := &cobra.Command{
		Use:   "lint FILE|-|group:NAME",
		Short: "Find what a policy's author will regret",
		Long: `Look at a policy for doors left open, patterns that admit more than they seem to, containers
that can never start, secrets in the text, and settings that allow more than most need.

Any policy in Rego can be looked at; what could not be judged is said. The codes are listed
in docs/reference/policy-lint.md. Exits with 3 when a finding is as bad as --fail-on says.`,
		Example: `  cofferdam policy lint policy.rego
  cofferdam policy lint --fail-on warning --ignore MUTABLE_TAG policy.rego`,
		Args: console.Arguments(1, 1, "one policy"),
		RunE: func(cmd *cobra.Command, args []string) error {
			level := lint.Severity(failOn)
			if !slices.Contains([]lint.Severity{lint.Error, lint.Warning, lint.Note, neverFails}, level) {
				return console.Usage(cmd, fmt.Sprintf("--fail-on is %q; want error, warning, note or never", failOn))
			}
			for _, code := range ignore {
				if !slices.ContainsFunc(lint.Rules(), func(r lint.Rule) bool { return string(r.Code) == code }) {
					return console.Usage(cmd, fmt.Sprintf("--ignore names %q, which is no code", code))
				}
			}
			text, err := a.PolicyText(args[0])
			if err != nil {
				return err
			}
			found, err := lint.Check(cmd.Context(), text)
			if err != nil {
				return err
			}
			found = slices.DeleteFunc(found, func(f lint.Finding) bool { return slices.Contains(ignore, string(f.Code)) })
			return a.showFindings(found, level)
		},
	}
	c.Flags().StringVar(&failOn, "fail-on", string(lint.Error), "severity that makes the command exit with 3: error, warning, note or never")
	c.Flags().StringArrayVar(&ignore, "ignore", nil, "leave a code out; may be given several times")
	a.OutputFlag(c)
	return c
}

func (a *App) showFindings(found []lint.Finding, failOn lint.Severity) error {
	v := lintAnswer{Schema: "cofferdam.dev/policy-lint/v1", Findings: append([]lint.Finding{}, found...)}
	for _, f := range found {
		v.Failed = v.Failed || failOn != neverFails && f.Severity.AtLeast(failOn)
	}
	err := a.Answer(v, func(w io.Writer) error {
		s := a.Style(a.Out)
		paint := map[lint.Severity]func(string) string{lint.Error: s.Bad, lint.Warning: s.Warn, lint.Note: s.Dim}
		for _, f := range found {
			place := f.Path
			if f.Line > 0 {
				place = strings.TrimSpace(fmt.Sprintf("line %d %s", f.Line, f.Path))
			}
			_, err := fmt.Fprintf(w, "%s %s %s: %s\n    fix: %s\n", paint[f.Severity](string(f.Severity)), f.Code,
				plain.Printable(place), plain.Printable(f.Message), plain.Printable(f.Fix))
			if err != nil {
				return err
			}
		}
		if len(found) == 0 {
			_, err := fmt.Fprintln(w, "nothing found")
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	if v.Failed {
		return console.Quiet(console.ExitRefused)
	}
	return nil
}
