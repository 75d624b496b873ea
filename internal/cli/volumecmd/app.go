// SPDX-License-Identifier: Apache-2.0

// Package volumecmd has the commands about encrypted volumes: making, checking, mounting, moving them and changing their keys.
//
// It trusts keys and descriptors that the user names, and no storage. It never writes a volume's key to a disk in clear,
// and never returns data that was not verified where the volume's format can.
package volumecmd

import (
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/keycmd"
)

// App is one invocation of the command line, with the rooms whose help these commands need.
type App struct {
	*console.Console
	keys *keycmd.App
}

// New returns the commands on a console.
func New(c *console.Console) *App {
	return &App{Console: c, keys: keycmd.New(c)}
}
