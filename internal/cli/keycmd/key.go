// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
)

// KeyCommand returns `key` with all that is below it.
func (a *App) KeyCommand() *cobra.Command {
	return console.Noun("key", "Keep keys in a vault, and say to which guests it releases them",
		a.keyCreateCommand(), a.keyImportCommand(), a.keyListCommand(), a.keyShowCommand(), a.keyRotateCommand(), a.keyReleaseCommand(),
		a.keyExplainCommand(), a.removeCommand(KeyKind), a.recoverCommand(KeyKind), a.purgeCommand(KeyKind),
		a.backupCommand(KeyKind), a.restoreCommand(KeyKind),
		console.Noun("rotation", "Show and set when keys are rotated by themselves", a.keyRotationShowCommand(), a.keyRotationSetCommand()),
		console.Noun("policy", "Make, try, show and set the release policies of keys",
			a.keyPolicyMakeCommand(), a.keyPolicyTestCommand(), a.keyPolicyShowCommand(), a.policySetCommand(KeyKind)))
}

// ObjectKind is what a vault holds: keys or secrets.
type ObjectKind struct {
	// noun names one of them, and path is where they are.
	noun, path string
}

// The kinds of objects.
var (
	KeyKind    = ObjectKind{"key", "keys"}
	secretKind = ObjectKind{"secret", "secrets"}
)
