// SPDX-License-Identifier: Apache-2.0

// Package keycmd has the commands about keys and secrets in a vault and a key broker, and how a command finds its vault.
//
// It trusts the vault whose certificate the user's roots vouch for, with what the user gives into it. It never shows a
// secret that was not asked for by name, and takes none from the arguments.
package keycmd

import (
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/policycmd"
)

// App is one invocation of the command line, with the rooms whose help these commands need.
type App struct {
	*console.Console
	policy *policycmd.App
}

// New returns the commands on a console.
func New(c *console.Console) *App {
	return &App{Console: c, policy: policycmd.New(c)}
}
