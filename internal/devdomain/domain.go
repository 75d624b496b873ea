// SPDX-License-Identifier: Apache-2.0

package devdomain

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/audit"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/kbs"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/internal/store/open"
	"cofferdam.dev/internal/vault"
	"cofferdam.dev/internal/vault/authority"
	"cofferdam.dev/internal/vault/devissuer"
	"cofferdam.dev/verify/anchor"
)

// Files of the state directory.
const (
	fileDocument   = "domain.json"
	fileCA         = "ca.pem"
	fileCAKey      = "ca-key.secret"
	fileAdmin      = "admin-token"
	fileRoot       = "root-key.sealed"
	filePassphrase = "root-key.passphrase" //nolint:gosec // the name of a file
	fileStore      = "store.db"
	dirClients     = "clients"
)

// vaultName tells the domain's vault apart from others in a store.
const vaultName = "vault"

// Tenant is the tenant of the domain's own token issuer.
const Tenant = "development"

// HostName is the name by which a group reaches loopback ports of its host that it was given. The domain answers to it.
const HostName = "host.cofferdam.internal"

// DefaultRole is that of a client that only has keys released.
const DefaultRole = auth.Role("Key Vault Crypto Service Release User")

// Addresses are where the services listen, host:port. An empty one is a service that is not served.
type Addresses struct{ Attestation, Vault, Broker string }

// Client may get tokens from the domain.
type Client struct {
	// ID names it, and the file of its secret.
	ID string
	// Roles are those of a key vault.
	Roles []auth.Role
}

// Options are what a domain is made of.
type Options struct {
	// State is the directory of everything.
	State string
	// Listen is where the services listen. The attestation service and the vault must be there.
	Listen Addresses
	// Names are further host names of the services, besides HostName, localhost and that of each address.
	Names []string
	// Roots are the simulated roots that are accepted; without any, no simulated evidence is.
	Roots []anchor.Root
	// Clients may get tokens.
	Clients []Client
	// Log gets what operators need to know. It may be nil.
	Log *slog.Logger
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Domain is a domain whose addresses are open. Run serves it.
type Domain struct {
	opts  Options
	ca    *ca
	root  *seal.Memory
	store store.Store
	log   *audit.Log

	service *attestsvc.Service
	vault   *vault.Vault
	broker  *kbs.Broker
	who     auth.Authenticator // the operator
	clients []devissuer.Client

	servers []*served
	doc     Document
}

// Open opens the state, which it makes when it is not there, and the addresses. Whoever opens a domain closes it.
func Open(ctx context.Context, o Options) (*Domain, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	d := &Domain{opts: o}
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening the development domain: %w", err), d.Close())
	}
	return d, nil
}

func (d *Domain) open(ctx context.Context) error {
	if d.opts.Listen.Attestation == "" || d.opts.Listen.Vault == "" {
		return errors.New("the attestation service or the vault has no address")
	}
	if err := os.MkdirAll(d.opts.State, 0o700); err != nil {
		return err
	}
	var err error
	if d.ca, err = openCA(d.file(fileCA), d.file(fileCAKey), d.opts.Now()); err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	if d.who, err = auth.OpenFileToken(d.file(fileAdmin), operatorRoles()...); err != nil {
		return err
	}
	if err := d.readClients(); err != nil {
		return err
	}
	if d.root, err = d.openRoot(); err != nil {
		return err
	}
	if d.store, err = open.URL(ctx, "bolt:"+d.file(fileStore)); err != nil {
		return err
	}
	if d.log, err = audit.OpenState(d.opts.State, ""); err != nil {
		return err
	}
	if err := d.listen(ctx); err != nil {
		return err
	}
	if err := d.assemble(ctx); err != nil {
		return err
	}
	return d.handlers(ctx)
}

func (d *Domain) file(name string) string { return filepath.Join(d.opts.State, name) }

// openRoot opens the root key. Its passphrase lies beside it, so the two are worth as much as the directory.
func (d *Domain) openRoot() (*seal.Memory, error) {
	if _, err := auth.OpenFileToken(d.file(filePassphrase), "passphrase"); err != nil { // makes one that is random
		return nil, err
	}
	b, err := os.ReadFile(d.file(filePassphrase))
	if err != nil {
		return nil, err
	}
	passphrase := seal.NewSecret([]byte(strings.TrimSpace(string(b))))
	clear(b)
	defer passphrase.Destroy()
	if _, err := os.Stat(d.file(fileRoot)); errors.Is(err, fs.ErrNotExist) {
		return seal.CreatePassphrase(d.file(fileRoot), passphrase)
	}
	return seal.OpenPassphrase(d.file(fileRoot), passphrase)
}

// readClients reads the clients' secrets, and makes those that are not there.
func (d *Domain) readClients() error {
	for _, c := range d.opts.Clients {
		if c.ID == "" || c.ID != filepath.Base(c.ID) || strings.HasPrefix(c.ID, ".") {
			return fmt.Errorf("client %q: its name is no file name", c.ID)
		}
		file := d.clientFile(c.ID)
		if _, err := auth.OpenFileToken(file, c.Roles...); err != nil {
			return fmt.Errorf("client %q: %w", c.ID, err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("client %q: %w", c.ID, err)
		}
		d.clients = append(d.clients, devissuer.Client{ID: c.ID, Secret: strings.TrimSpace(string(b)), Roles: c.Roles})
	}
	return nil
}

func (d *Domain) clientFile(id string) string { return d.file(filepath.Join(dirClients, id+".secret")) }

// assemble puts the services together: the vault and the broker believe the one attestation service, whose keys they ask it for.
func (d *Domain) assemble(ctx context.Context) error {
	own, err := kbs.OpenStore(ctx, d.store, d.root)
	if err != nil {
		return err
	}
	baseline := attestsvc.DefaultBaseline()
	baseline.Roots, baseline.AllowSimulated = append(baseline.Roots, d.opts.Roots...), len(d.opts.Roots) > 0
	d.service, err = attestsvc.New(ctx, attestsvc.Options{
		Issuer: d.doc.Attestation.URL, Baseline: baseline, Store: own, Audit: d.log, Log: d.opts.Log, Now: d.opts.Now,
	})
	if err != nil {
		return err
	}
	d.doc.Attestation.Issuer = d.service.Issuer(attestsvc.DefaultTenant, false)
	keys := authority.Func(d.service.Keys)
	list := []authority.Authority{{Issuer: d.doc.Attestation.Issuer, Keys: keys}}
	if d.service.Simulated() {
		d.doc.Attestation.SimulatedIssuer = d.service.Issuer(attestsvc.DefaultTenant, true)
		list = append(list, authority.Authority{Issuer: d.doc.Attestation.SimulatedIssuer, Keys: keys, Simulated: true})
	}
	believed, err := authority.NewSet(list...)
	if err != nil {
		return err
	}
	d.vault, err = vault.New(vault.Options{
		Name: vaultName, Store: d.store, Root: d.root, Audit: d.log, Authorities: believed, Log: d.opts.Log, Now: d.opts.Now,
	})
	if err != nil || d.opts.Listen.Broker == "" {
		return err
	}
	d.broker, err = kbs.New(ctx, kbs.Options{
		Service: d.service, Authorities: believed, Vault: d.vault, Store: own, Audit: d.log, Log: d.opts.Log, Now: d.opts.Now,
	})
	return err
}

// Document says where everything is.
func (d *Domain) Document() Document { return d.doc }

// Close closes what Open opened. A domain that runs is ended by its context first.
func (d *Domain) Close() error {
	var errs []error
	for _, s := range d.servers {
		errs = append(errs, s.close())
	}
	if d.log != nil {
		errs = append(errs, d.log.Close())
	}
	if d.store != nil {
		errs = append(errs, d.store.Close())
	}
	return errors.Join(errs...)
}
