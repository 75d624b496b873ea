// SPDX-License-Identifier: Apache-2.0

// Package evidencecmd has the commands of a relying party: they get evidence, appraise it, and keep roots, collateral and
// appraisal policies. The simulated processor's are here, too, for they make what is appraised.
//
// It trusts no evidence and no collateral before the verifying rooms have; trust is added by the user, by name. It never
// turns a verdict into another one, and never leaves out that a processor is simulated.
package evidencecmd

import (
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/groupcmd"
	"cofferdam.dev/internal/cli/policycmd"
)

// App is one invocation of the command line, with the rooms whose help these commands need.
type App struct {
	*console.Console
	group  *groupcmd.App
	policy *policycmd.App
}

// New returns the commands on a console.
func New(c *console.Console) *App {
	return &App{Console: c, group: groupcmd.New(c), policy: policycmd.New(c)}
}
