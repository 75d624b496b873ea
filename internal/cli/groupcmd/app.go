// SPDX-License-Identifier: Apache-2.0

// Package groupcmd has `run` and the commands about groups: it launches them, and talks to their supervisors and guests.
//
// It trusts supervisors of the user's own groups, and nothing that a guest or a registry says: all of it is printed as foreign
// text. It never calls a simulated processor anything else, and never hands a guest what the user did not name.
package groupcmd

import (
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/imagecmd"
	"cofferdam.dev/internal/cli/policycmd"
)

// App is one invocation of the command line, with the rooms whose help these commands need.
type App struct {
	*console.Console
	image  *imagecmd.App
	policy *policycmd.App
}

// New returns the commands on a console.
func New(c *console.Console) *App {
	return &App{Console: c, image: imagecmd.New(c), policy: policycmd.New(c)}
}
