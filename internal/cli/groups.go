// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"

	"cofferdam.dev/internal/group"
	"github.com/spf13/cobra"
)

// groupPrefix marks an argument that names a group instead of a file.
const groupPrefix = "group:"

// store opens the groups of the state directory.
func (a *app) store() (*group.Store, error) { return group.OpenStore(a.home) }

// lookup finds a group by name or ID.
func (a *app) lookup(ref string) (*group.Store, *group.Group, error) {
	s, err := a.store()
	if err != nil {
		return nil, nil, err
	}
	g, err := s.Lookup(ref)
	if errors.Is(err, group.ErrNotFound) {
		return nil, nil, fixed(err, "cofferdam group ps --all")
	}
	return s, g, err
}

// dial connects to the supervisor of a group.
func (a *app) dial(ref string) (*group.Client, error) {
	s, g, err := a.lookup(ref)
	if err != nil {
		return nil, err
	}
	c, err := s.Dial(g.Record.ID)
	if errors.Is(err, group.ErrNotRunning) {
		return nil, fixed(err, "cofferdam group debug %s says why; cofferdam group start %s starts it again", g.Record.Name, g.Record.Name)
	}
	return c, err
}

// completeGroups offers the names of groups to the shell.
func (a *app) completeGroups(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 || a.findHome() != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	s, err := a.store()
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
