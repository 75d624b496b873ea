// SPDX-License-Identifier: Apache-2.0

package groupcmd

import (
	"strings"

	"github.com/spf13/cobra"
)

// completeContainers offers the names of a group's containers to the shell, for --container.
func (a *App) completeContainers(c *cobra.Command) {
	_ = c.RegisterFlagCompletionFunc("container", func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) { // the flag exists: its command defined it
		if len(args) == 0 || a.FindHome() != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ref, _, _ := strings.Cut(args[0], ":") // cp has a path behind it
		_, g, err := a.Lookup(ref)
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for _, c := range g.Record.Containers {
			names = append(names, c.Name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
}

// completeCopy offers groups with the colon that a path follows, and files where no group begins like that.
func (a *App) completeCopy(cmd *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	groups, _ := a.CompleteGroups(cmd, nil, word)
	var places []string
	for _, name := range groups {
		if strings.HasPrefix(name, word) {
			places = append(places, name+":")
		}
	}
	if len(places) == 0 || strings.ContainsAny(word, "/.") {
		return nil, cobra.ShellCompDirectiveDefault
	}
	return places, cobra.ShellCompDirectiveNoSpace
}
