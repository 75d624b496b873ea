// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"
)

func (a *app) keyCommand() *cobra.Command {
	return noun("key", "Keep keys in a vault, and say to which guests it releases them",
		a.keyCreateCommand(), a.keyImportCommand(), a.keyListCommand(), a.keyShowCommand(), a.keyRotateCommand(), a.keyReleaseCommand(),
		a.keyExplainCommand(), a.removeCommand(keyKind), a.recoverCommand(keyKind), a.purgeCommand(keyKind),
		a.backupCommand(keyKind), a.restoreCommand(keyKind),
		noun("rotation", "Show and set when keys are rotated by themselves", a.keyRotationShowCommand(), a.keyRotationSetCommand()),
		noun("policy", "Make, try, show and set the release policies of keys",
			a.keyPolicyMakeCommand(), a.keyPolicyTestCommand(), a.keyPolicyShowCommand(), a.policySetCommand(keyKind)))
}

// objectKind is what a vault holds: keys or secrets.
type objectKind struct {
	// noun names one of them, and path is where they are.
	noun, path string
}

var (
	keyKind    = objectKind{"key", "keys"}
	secretKind = objectKind{"secret", "secrets"}
)
