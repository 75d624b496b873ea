// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"path/filepath"

	"cofferdam.dev/internal/devdomain"
)

// domainState is the directory of the development domain below the state directory.
const domainState = "domain"

// domainVault fills in the vault of the development domain that runs with this state directory, if one does.
func (o *vaultOptions) domainVault(home string) bool {
	d, err := devdomain.Running(filepath.Join(home, domainState))
	if err != nil {
		return false // there is none
	}
	o.vault = d.Vault.URL
	if o.ca == "" {
		o.ca = d.CA
	}
	if o.tokenFile == "" && o.clientCertificate == "" && o.token == "" {
		o.tokenFile = d.AdminToken
	}
	return true
}
