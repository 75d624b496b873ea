// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/plain"
	"cofferdam.dev/policy/learn"
)

func (a *App) policyLearnCommand() *cobra.Command {
	var all, denied bool
	c := &cobra.Command{
		Use:   "learn REQUESTS|-",
		Short: "Make a policy of recorded requests",
		Long: `Print the least policy that admits recorded requests, in the form that ` + "`policy simulate`" + `
takes and ` + "`run --record`" + ` makes. Every value is listed literally, and the engine has
confirmed what is printed.

What no policy can admit (a second start, devices) is left out and named on standard error,
and so is what was denied when it was recorded, unless --denied asks for it. Look at the
result before you use it: it admits what the host asked for, environment values included.`,
		Example: `  cofferdam run --rm --record run.jsonl oci-archive:app.tar
  cofferdam policy learn run.jsonl > policy.rego
  cofferdam policy learn commands.json | cofferdam policy lint -`,
		Args: console.Arguments(1, 1, "one file of requests"),
		RunE: func(cmd *cobra.Command, args []string) error {
			steps, err := a.recording(args[0])
			if err != nil {
				return err
			}
			p, notes, err := learn.Learn(cmd.Context(), steps, learn.Options{Denied: denied})
			if err != nil {
				return err
			}
			for _, n := range notes {
				a.Say("%s %s", a.Style(a.Err).Warn("left out:"), plain.Printable(n))
			}
			_, err = a.Out.Write(p.Text())
			if err != nil {
				return fmt.Errorf("writing the policy: %w", err)
			}
			if all && len(notes) > 0 {
				return console.Quiet(console.ExitRefused)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&denied, "denied", false, "learn what was denied when it was recorded, too")
	c.Flags().BoolVar(&all, "all", false, "exit with 3 when something was left out")
	return c
}
