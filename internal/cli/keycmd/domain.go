// SPDX-License-Identifier: Apache-2.0

package keycmd

import (
	"path/filepath"

	"cofferdam.dev/internal/devdomain"
)

// DomainState is the directory of the development domain below the state directory.
const DomainState = "domain"

// domainVault fills in the vault of the development domain that runs with this state directory, if one does.
func (o *VaultOptions) domainVault(home string) bool {
	d, err := devdomain.Running(filepath.Join(home, DomainState))
	if err != nil {
		return false // there is none
	}
	o.Vault = d.Vault.URL
	if o.ca == "" {
		o.ca = d.CA
	}
	if o.tokenFile == "" && o.clientCertificate == "" && o.token == "" {
		o.tokenFile = d.AdminToken
	}
	return true
}
