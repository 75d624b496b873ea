// SPDX-License-Identifier: Apache-2.0

// Package trust is the list of roots that the owner of an installation decided to know by name, besides those that are
// built in: the roots of simulated processors of other installations.
//
// To be on the list grants nothing. A root of it is used only by a command that names it, under the trust domain that it
// was added for, and package anchor checks it again at each use. The package trusts the file in the state directory as
// much as its owner's account, and what its caller adds. It never adds a root by itself, never lets evidence choose one,
// and never admits a root to a hardware domain: those have the vendors' own and no others.
package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"syscall"
	"time"

	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/check"
)

// Local names an installation's own simulated root, which is not on the list and whose name nothing else may have.
const Local = "local"

// lockName is the file that is locked while the list is changed.
const lockName = "lock"

// ErrUnknown is wrapped by errors about names that are not on the list.
var ErrUnknown = errors.New("no trusted root has this name")

// Untrustworthy is the error about a certificate that no root can be made of.
type Untrustworthy struct {
	// Code is the code that a verdict would have for it.
	Code check.Code
	// Err says what is wrong.
	Err error
}

// Error begins with the code.
func (u *Untrustworthy) Error() string { return fmt.Sprintf("%s: %v", u.Code, u.Err) }

// Unwrap returns what is wrong.
func (u *Untrustworthy) Unwrap() error { return u.Err }

// Root is a root of the list.
type Root struct {
	// Name is how commands name it: lower-case letters, digits and hyphens.
	Name string
	// Domain is what it is trusted for.
	Domain anchor.Domain
	// SPKI is the SHA-256 of its public key in hexadecimal, written down when it was added.
	SPKI string
	// Added is when it was added.
	Added time.Time
	// Certificate is the self-signed root certificate.
	Certificate *x509.Certificate
}

// Anchor returns the root in the form that a verifier takes, after checking it.
func (r Root) Anchor() (anchor.Root, error) {
	root := anchor.Root{Domain: r.Domain, Name: r.Name, Certificate: r.Certificate}
	if code, err := root.Check(); err != nil {
		return anchor.Root{}, fmt.Errorf("trusting root %q: %w", r.Name, &Untrustworthy{code, err})
	}
	return anchor.NewRoot(r.Domain, r.Name, r.Certificate)
}

// Store is the list of an installation. It is safe for concurrent use, also by several processes.
type Store struct{ dir string }

// Open returns the list below a state directory. Nothing is made until a root is added.
func Open(home string) *Store { return &Store{filepath.Join(home, "trust")} }

var nameForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// CheckName returns an error unless a root may have the name.
func CheckName(name string) error {
	if name == Local {
		return fmt.Errorf("the name %q is that of this installation's own root", Local)
	}
	if !nameForm.MatchString(name) {
		return fmt.Errorf("the name %q is not 1 to 63 lower-case letters, digits and hyphens, with no hyphen first", name)
	}
	return nil
}

// List returns the roots, by name.
func (s *Store) List() ([]Root, error) {
	roots, err := s.load()
	if err != nil {
		return nil, fmt.Errorf("reading trusted roots: %w", err)
	}
	return roots, nil
}

// Find returns the root of a name.
func (s *Store) Find(name string) (Root, error) {
	roots, err := s.List()
	if err != nil {
		return Root{}, err
	}
	i := slices.IndexFunc(roots, func(r Root) bool { return r.Name == name })
	if i < 0 {
		return Root{}, fmt.Errorf("%q: %w", name, ErrUnknown)
	}
	return roots[i], nil
}

// Add puts a root on the list. It refuses, with an Untrustworthy error, what a verifier would refuse.
func (s *Store) Add(domain anchor.Domain, name string, cert *x509.Certificate, now time.Time) (Root, error) {
	r := Root{Name: name, Domain: domain, Added: now.UTC().Truncate(time.Second), Certificate: cert}
	if err := CheckName(name); err != nil {
		return Root{}, fmt.Errorf("adding trusted root: %w", err)
	}
	if _, err := r.Anchor(); err != nil {
		return Root{}, err
	}
	if domain != anchor.Simulated {
		return Root{}, fmt.Errorf("adding trusted root: the roots of domain %q are built in, and it has no others", domain)
	}
	r.SPKI = anchor.SPKI(cert)
	return r, s.change(func(roots []Root) ([]Root, error) {
		for _, o := range roots {
			if o.Name == name || o.SPKI == r.SPKI {
				return nil, fmt.Errorf("adding trusted root %q: there is %q already, with the public key %s", name, o.Name, o.SPKI)
			}
		}
		if len(roots) == maxRoots {
			return nil, fmt.Errorf("adding trusted root %q: there are %d already", name, maxRoots)
		}
		return append(roots, r), nil
	})
}

// Remove takes a root off the list.
func (s *Store) Remove(name string) error {
	return s.change(func(roots []Root) ([]Root, error) {
		i := slices.IndexFunc(roots, func(r Root) bool { return r.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("%q: %w", name, ErrUnknown)
		}
		return slices.Delete(roots, i, i+1), nil
	})
}

// change replaces the list. Changes are made one after the other, each whole or not at all.
func (s *Store) change(f func([]Root) ([]Root, error)) error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("changing trusted roots: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(s.dir, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("changing trusted roots: %w", err)
	}
	defer func() { _ = lock.Close() }() // closing unlocks, and nothing was written
	for {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("changing trusted roots: locking: %w", err)
	}
	roots, err := s.load()
	if err != nil {
		return fmt.Errorf("changing trusted roots: %w", err)
	}
	if roots, err = f(roots); err != nil {
		return err
	}
	if err := s.store(roots); err != nil {
		return fmt.Errorf("changing trusted roots: %w", err)
	}
	return nil
}
