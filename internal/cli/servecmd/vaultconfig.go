// SPDX-License-Identifier: Apache-2.0

package servecmd

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/vault/devissuer"
	"cofferdam.dev/internal/vault/rest"
)

// vaultConfig is the configuration file of the vault. Flags win over it.
type vaultConfig struct {
	Schema string       `json:"schema"`
	Listen listenConfig `json:"server"`
	// Callers are who may do what, by client certificate or by a provider's token.
	Callers adminConfig `json:"callers"`
	// Clients may get tokens from the vault itself, for development.
	Clients []vaultClient `json:"clients"`
	// Authorities are the attestation services whose tokens count.
	Authorities []vaultAuthority `json:"authorities"`
	// URL is the vault's, as clients see it.
	URL string `json:"url"`
	// Name tells vaults in one store apart.
	Name string `json:"name"`
	// ManagedHSM makes the vault answer as a managed HSM.
	ManagedHSM bool `json:"managedHSM"`
	// Store is where keys and secrets are kept, encrypted: bolt:PATH or etcd://….
	Store string `json:"store"`
	// Instance names this instance in the audit log.
	Instance string `json:"instance"`
	// RootKey is the file of the root key, and Passphrase the one with its passphrase; Shares are files with shares of a root key
	// that is split, and TEEDevice the kind of the machine's device for one that is sealed to it.
	RootKey    string   `json:"rootKey"`
	Passphrase string   `json:"passphraseFile"`
	Shares     []string `json:"shareFiles"`
	TEEDevice  string   `json:"teeDevice"`
	// HSM is the module whose key the root key is under.
	HSM hsmConfig `json:"pkcs11"`
	// RecoverableDays and PurgeProtection say what becomes of deleted objects.
	RecoverableDays int  `json:"recoverableDays"`
	PurgeProtection bool `json:"purgeProtection"`
	// ReleaseCertificate and ReleaseKey are PEM files with which releases are signed.
	ReleaseCertificate string `json:"releaseCertificate"`
	ReleaseKey         string `json:"releaseKey"`
}

// vaultConfigSchema is the schema of the file.
const vaultConfigSchema = "cofferdam.dev/vault-config/v1"

// vaultClient is a client of the development token issuer.
type vaultClient struct {
	ID string `json:"id"`
	// Secret is the file with the client's secret. It is made when it is not there.
	Secret string      `json:"secretFile"`
	Roles  []auth.Role `json:"roles"`
}

// flags are those that stand for members of the file.
func (c *vaultConfig) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	c.Listen.flags(cmd, "127.0.0.1:8444")
	f.StringVar(&c.URL, "url", "", "the vault's URL as clients see it (default: https:// and the address)")
	f.BoolVar(&c.ManagedHSM, "managed-hsm", false, "answer as a managed HSM does")
	f.StringVar(&c.ReleaseCertificate, "release-certificate", "", "certificate chain in PEM that signs releases (default: one for development)")
	f.StringVar(&c.ReleaseKey, "release-key", "", "its private RSA key in PEM")
	f.IntVar(&c.RecoverableDays, "recoverable-days", 0, "days for which deleted objects can be recovered, 7 to 90 (default: 90)")
	f.BoolVar(&c.PurgeProtection, "purge-protection", false, "never remove deleted objects before their time")
	c.storeFlags(cmd)
}

// storeFlags are those that say where a vault's objects are, and what opens them.
func (c *vaultConfig) storeFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.Name, "name", "vault", "name of the vault, which tells vaults in one store apart")
	f.StringVar(&c.Store, "store", "", "bolt:PATH, or etcd://HOST:PORT/PREFIX?ca=…&cert=…&key=… (default: a file in the state directory)")
	f.StringVar(&c.RootKey, "root-key", "", "file of the root key, which is made when it is not there (default: in the state directory)")
	f.StringVar(&c.Passphrase, "passphrase-file", "", "file with the root key's passphrase (default: a random one in the state directory)")
	f.StringArrayVar(&c.Shares, "share-file", nil, "file with a share of a root key that is split; may be given several times, and what is missing is read from standard input")
	f.StringVar(&c.TEEDevice, "tee-device", "", "for a root key that is sealed to this machine: the kind of its device, such as sev-guest")
	c.HSM.flags(cmd)
}

// override takes over what flags say. A flag that was not given says something only where the file does not.
func (c *vaultConfig) override(cmd *cobra.Command, flags *vaultConfig) {
	said := givenFlags{cmd}
	c.Listen.override(said, &flags.Listen)
	said.text(&c.URL, "url", flags.URL)
	said.text(&c.Name, "name", flags.Name)
	said.text(&c.Store, "store", flags.Store)
	said.text(&c.RootKey, "root-key", flags.RootKey)
	said.text(&c.Passphrase, "passphrase-file", flags.Passphrase)
	said.text(&c.ReleaseCertificate, "release-certificate", flags.ReleaseCertificate)
	said.text(&c.ReleaseKey, "release-key", flags.ReleaseKey)
	said.text(&c.TEEDevice, "tee-device", flags.TEEDevice)
	said.text(&c.HSM.Module, "pkcs11-module", flags.HSM.Module)
	said.text(&c.HSM.Helper, "pkcs11-helper", flags.HSM.Helper)
	said.text(&c.HSM.PIN, "pin-file", flags.HSM.PIN)
	c.Shares = append(c.Shares, flags.Shares...)
	said.yes(&c.ManagedHSM, "managed-hsm", flags.ManagedHSM)
	if cmd.Flags().Changed("recoverable-days") {
		c.RecoverableDays = flags.RecoverableDays
	}
	said.yes(&c.PurgeProtection, "purge-protection", flags.PurgeProtection)
}

// addClients takes over the clients that flags name: ID=ROLE.
func (c *vaultConfig) addClients(cmd *cobra.Command, flags []string) error {
	for _, f := range flags {
		id, role, ok := strings.Cut(f, "=")
		if !ok || id == "" || role == "" {
			return console.Usage(cmd, fmt.Sprintf("--client is %q; want ID=ROLE", f))
		}
		found := false
		for i := range c.Clients {
			if c.Clients[i].ID == id {
				c.Clients[i].Roles, found = append(c.Clients[i].Roles, auth.Role(role)), true
			}
		}
		if !found {
			c.Clients = append(c.Clients, vaultClient{ID: id, Roles: []auth.Role{auth.Role(role)}})
		}
	}
	return nil
}

// checkRoles refuses roles that the vault does not know, of which nobody would ever notice that they give nothing.
func (c *vaultConfig) checkRoles() error {
	var all []auth.Role
	for _, r := range c.Callers.Certificates {
		all = append(all, r.Roles...)
	}
	for _, o := range c.Callers.OIDC {
		for _, r := range o.Rules {
			all = append(all, r.Roles...)
		}
	}
	for _, cl := range c.Clients {
		all = append(all, cl.Roles...)
	}
	for _, r := range all {
		if !rest.KnownRole(r, c.ManagedHSM) {
			kind := "vault"
			if c.ManagedHSM {
				kind = "managed HSM"
			}
			return fmt.Errorf("role %q is none of a %s's; see docs/reference/vault.md", r, kind)
		}
	}
	return nil
}

// issuerClients reads the clients' secrets, and makes those that are not there.
func (c *vaultConfig) issuerClients(state string) ([]devissuer.Client, error) {
	var list []devissuer.Client
	for _, cl := range c.Clients {
		file := cl.Secret
		if file == "" {
			if cl.ID != filepath.Base(cl.ID) || strings.HasPrefix(cl.ID, ".") {
				return nil, fmt.Errorf("client %q: its name is no file name, so name the file of its secret", cl.ID)
			}
			file = filepath.Join(state, "clients", cl.ID+".secret")
		}
		// Makes the file, with a random secret that only its owner may read, or checks that it is of that form.
		if _, err := auth.OpenFileToken(file, cl.Roles...); err != nil {
			return nil, fmt.Errorf("client %q: %w", cl.ID, err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("client %q: %w", cl.ID, err)
		}
		list = append(list, devissuer.Client{ID: cl.ID, Secret: strings.TrimSpace(string(b)), Roles: cl.Roles})
	}
	return list, nil
}
