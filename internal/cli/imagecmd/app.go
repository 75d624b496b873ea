// SPDX-License-Identifier: Apache-2.0

// Package imagecmd has the commands about images, containers' and the guest's own, and opens them for the other commands.
//
// It trusts the state directory and what the user names as much as the user's own account. It never takes a layer whose
// digest is not the one that its image names, and never starts anything.
package imagecmd

import (
	"cofferdam.dev/internal/cli/console"
)

// App is one invocation of the command line, with the rooms whose help these commands need.
type App struct {
	*console.Console
}

// New returns the commands on a console.
func New(c *console.Console) *App {
	return &App{Console: c}
}
