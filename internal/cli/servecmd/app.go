// SPDX-License-Identifier: Apache-2.0

// Package servecmd has the commands that serve: attestation, vault, key broker, groups, a whole development domain, and the
// sidecars in a group; and the commands about what services leave behind: vaults and audit logs.
//
// It trusts configuration and state directory as much as the user's own account, and callers as little as the services say.
// It never listens without TLS beyond this machine unless told to, and never logs a secret.
package servecmd

import (
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/cli/evidencecmd"
	"cofferdam.dev/internal/cli/groupcmd"
	"cofferdam.dev/internal/cli/imagecmd"
)

// App is one invocation of the command line, with the rooms whose help these commands need.
type App struct {
	*console.Console
	evidence *evidencecmd.App
	group    *groupcmd.App
	image    *imagecmd.App
}

// New returns the commands on a console.
func New(c *console.Console) *App {
	return &App{Console: c, evidence: evidencecmd.New(c), group: groupcmd.New(c), image: imagecmd.New(c)}
}
