// SPDX-License-Identifier: Apache-2.0

// Package attestationcmd has the commands of an attestation service's users and operators: asking for tokens, and writing and
// testing the policies by which they are given.
//
// It trusts a service whose certificate the user's roots vouch for. It never takes a token for verified that it only
// prints, and never sends a policy that was not read whole.
package attestationcmd

import (
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/evidencecmd"
)

// App is one invocation of the command line, with the rooms whose help these commands need.
type App struct {
	*console.Console
	evidence *evidencecmd.App
}

// New returns the commands on a console.
func New(c *console.Console) *App {
	return &App{Console: c, evidence: evidencecmd.New(c)}
}
