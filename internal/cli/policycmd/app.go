// SPDX-License-Identifier: Apache-2.0

// Package policycmd has the commands that make execution policies, sign fragments of them and trust lists, compare, check and
// explain them, and reads descriptions and policies for the other commands.
//
// It trusts the user's files to be the user's. It never decides what may run: that is the engine's, in the guest. It never
// writes to a description that it was not told to write to.
package policycmd

import (
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/imagecmd"
)

// App is one invocation of the command line, with the rooms whose help these commands need.
type App struct {
	*console.Console
	image *imagecmd.App
}

// New returns the commands on a console.
func New(c *console.Console) *App {
	return &App{Console: c, image: imagecmd.New(c)}
}
