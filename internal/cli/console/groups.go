// SPDX-License-Identifier: Apache-2.0

package console

import (
	"errors"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/group"
)

// GroupPrefix marks an argument that names a group instead of a file.
const GroupPrefix = "group:"

// Store opens the groups of the state directory.
func (a *Console) Store() (*group.Store, error) { return group.OpenStore(a.Home) }

// Lookup finds a group by name or ID.
func (a *Console) Lookup(ref string) (*group.Store, *group.Group, error) {
	s, err := a.Store()
	if err != nil {
		return nil, nil, err
	}
	g, err := s.Lookup(ref)
	if errors.Is(err, group.ErrNotFound) {
		return nil, nil, Fixed(err, "cofferdam group ps --all")
	}
	return s, g, err
}

// Dial connects to the supervisor of a group.
func (a *Console) Dial(ref string) (*group.Client, error) {
	s, g, err := a.Lookup(ref)
	if err != nil {
		return nil, err
	}
	c, err := s.Dial(g.Record.ID)
	if errors.Is(err, group.ErrNotRunning) {
		return nil, Fixed(err, "cofferdam group debug %s says why; cofferdam group start %s starts it again", g.Record.Name, g.Record.Name)
	}
	return c, err
}

// CompleteGroups offers the names of groups to the shell.
func (a *Console) CompleteGroups(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.FindHome() != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s, err := a.Store()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	groups, _ := s.List() // what can be read is offered
	var names []string
	for _, g := range groups {
		names = append(names, g.Record.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
