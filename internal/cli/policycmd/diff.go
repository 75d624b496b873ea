// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy/diff"
)

// diffAnswer is the document behind `policy diff -o json`.
type diffAnswer struct {
	Schema string `json:"schema"`
	*diff.Result
}

func (a *App) policyDiffCommand() *cobra.Command {
	var expect []string
	c := &cobra.Command{
		Use:   "diff FIRST SECOND",
		Short: "Compare what two policies allow",
		Long: `Say how the first policy stands to the second: equal, narrower, wider, or incomparable. What
one admits and the other does not is shown by a witness: requests that both were asked.

A request counts as admitted when it is allowed with all that it asks for. What can not be
shown is undecided, and the command exits with 4. With --expect, it exits with 3 if the
answer is another one. The differences of the texts are listed with what each does.`,
		Example: `  cofferdam policy diff old.rego new.rego
  cofferdam policy diff --expect equal,narrower new.rego group:db`,
		Args: console.Arguments(2, 2, "two policies"),
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, e := range expect {
				if !slices.Contains([]diff.Relation{diff.Equal, diff.Narrower, diff.Wider, diff.Incomparable}, diff.Relation(e)) {
					return console.Usage(cmd, fmt.Sprintf("--expect is %q; want equal, narrower, wider or incomparable", e))
				}
			}
			first, err := a.PolicyText(args[0])
			if err != nil {
				return err
			}
			second, err := a.PolicyText(args[1])
			if err != nil {
				return err
			}
			r, err := diff.Compare(cmd.Context(), first, second)
			if err != nil {
				return err
			}
			return a.showDiff(r, expect)
		},
	}
	c.Flags().StringSliceVar(&expect, "expect", nil, "answers that are fine: equal, narrower, wider, incomparable")
	a.OutputFlag(c)
	return c
}

func (a *App) showDiff(r *diff.Result, expect []string) error {
	v := diffAnswer{Schema: "cofferdam.dev/policy-diff/v1", Result: r}
	err := a.Answer(v, func(w io.Writer) error { return writeDiff(w, r) })
	switch {
	case err != nil:
		return err
	case r.Relation == diff.Undecided:
		return console.Quiet(console.ExitUndecided)
	case len(expect) > 0 && !slices.Contains(expect, string(r.Relation)):
		return console.Quiet(console.ExitRefused)
	}
	return nil
}

// sentences say what a relation means.
var sentences = map[diff.Relation]string{
	diff.Equal:        "equal: both admit the same requests",
	diff.Narrower:     "narrower: the first admits less than the second",
	diff.Wider:        "wider: the first admits more than the second",
	diff.Incomparable: "incomparable: each admits what the other does not",
	diff.Undecided:    "undecided",
}

func writeDiff(w io.Writer, r *diff.Result) error {
	var b strings.Builder
	b.WriteString(sentences[r.Relation] + "\n")
	for _, x := range []struct {
		title string
		w     *diff.Witness
	}{{"only the first admits", r.OnlyFirst}, {"only the second admits", r.OnlySecond}} {
		if x.w != nil {
			writeWitness(&b, x.title, x.w)
		}
	}
	for i, c := range r.Changes {
		if i == 0 {
			b.WriteString("\nchanges from the first to the second:\n")
		}
		fmt.Fprintf(&b, "  %-8s %-6s %s\n", c.Effect, c.Risk, plain.Printable(c.Path))
		for _, side := range [][2]string{{"-", c.First}, {"+", c.Second}} {
			if side[1] != "" {
				fmt.Fprintf(&b, "      %s %s\n", side[0], plain.Printable(side[1]))
			}
		}
	}
	for _, n := range r.Notes {
		b.WriteString("note: " + plain.Printable(n) + "\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func writeWitness(b *strings.Builder, title string, w *diff.Witness) {
	fmt.Fprintf(b, "\n%s: %s\n", title, plain.Printable(w.What))
	for _, s := range w.Steps {
		input, err := json.Marshal(s.Input)
		if err != nil {
			continue // what the engines took encodes
		}
		fmt.Fprintf(b, "  %s %s\n", s.Name, plain.Printable(string(input)))
	}
	fmt.Fprintf(b, "  the other one: %s\n", plain.Printable(strings.Join(w.Reasons, "; ")))
}
