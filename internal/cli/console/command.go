// SPDX-License-Identifier: Apache-2.0

package console

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// Noun returns a command that only groups others.
func Noun(use, short string, verbs ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: cobra.ArbitraryArgs, RunE: ParentRun}
	c.SuggestionsMinimumDistance = 2
	c.AddCommand(verbs...)
	return c
}

// ParentRun is what a command with sub-commands does: alone it shows its help, with anything else it asks back.
func ParentRun(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	message := fmt.Sprintf("%q is not a command of %q", args[0], cmd.CommandPath())
	if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
		message += fmt.Sprintf("; did you mean %s?", strings.Join(s, " or "))
	}
	return Usage(cmd, message)
}

// Arguments is like cobra's argument checks, with a failure of ours.
func Arguments(low, high int, want string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= low && (high < 0 || len(args) <= high) {
			return nil
		}
		return Usage(cmd, fmt.Sprintf("%s wants %s, got %d argument%s", cmd.CommandPath(), want, len(args), plural(len(args))))
	}
}

// AfterDashes drops the dashes that may stand between a name and the command that belongs to it.
func AfterDashes(args []string) []string {
	if len(args) > 0 && args[0] == "--" {
		return args[1:]
	}
	return args
}
