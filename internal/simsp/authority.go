// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/wholefile"
)

// certificateDir holds the certificates of authorities other than the first: those of other product lines, and those that
// vouch for providers' keys. They bear the keys of the first, are issued when they are first needed, and then stay.
const certificateDir = "certificates"

// Serial numbers of the authorities' certificates.
const (
	serialARK  = 0x10000
	serialASK  = 0x10001
	serialASVK = 0x10002
)

// authority is a root and the intermediate that vouches for one kind of chip key of one product line.
type authority struct{ ark, intermediate *x509.Certificate }

func rootName(line snp.ProductLine) string { return "ARK-" + string(line) }

func intermediateName(line snp.ProductLine, vlek bool) string {
	if vlek {
		return "SEV-VLEK-" + string(line)
	}
	return "SEV-" + string(line)
}

// Authority returns root and intermediate of a product line: those of chip keys, or with vlek those of providers' keys.
func (p *Processor) Authority(line snp.ProductLine, vlek bool) (ark, intermediate *x509.Certificate, err error) {
	a, err := p.authority(line, vlek)
	if err != nil {
		return nil, nil, fmt.Errorf("finding simulated authority: %w", err)
	}
	return a.ark, a.intermediate, nil
}

func (p *Processor) authority(line snp.ProductLine, vlek bool) (*authority, error) {
	if line == snp.Milan && !vlek {
		return &authority{p.ark, p.ask}, nil
	}
	if _, err := snp.ParseProductLine(string(line)); err != nil {
		return nil, err
	}
	a := &authority{ark: p.ark}
	var err error
	if line != snp.Milan {
		a.ark, err = p.certificate(rootName(line), func(key *rsa.PrivateKey) (*x509.Certificate, error) {
			t := rootTemplate(line, p.ark.NotBefore)
			return issue(t, t, key.Public(), key)
		})
		if err != nil {
			return nil, err
		}
	}
	a.intermediate, err = p.certificate(intermediateName(line, vlek), func(key *rsa.PrivateKey) (*x509.Certificate, error) {
		return issue(intermediateTemplate(line, vlek, p.ark.NotBefore), a.ark, p.askKey.Public(), key)
	})
	if err != nil {
		return nil, err
	}
	return a, nil
}

// certificate returns the certificate of an authority, and has it issued with the root's key when there is none yet.
func (p *Processor) certificate(name string, issue func(root *rsa.PrivateKey) (*x509.Certificate, error)) (*x509.Certificate, error) {
	dir := filepath.Join(p.dir, certificateDir)
	file := name + ".pem"
	cert, err := readCertificate(dir, file)
	if !errors.Is(err, fs.ErrNotExist) {
		return cert, err
	}
	unlock, err := lock(filepath.Join(p.dir, lockFile))
	if err != nil {
		return nil, err
	}
	defer unlock()
	cert, err = readCertificate(dir, file)
	if !errors.Is(err, fs.ErrNotExist) { // another process was first
		return cert, err
	}
	key, err := p.rootKey()
	if err != nil {
		return nil, err
	}
	if cert, err = issue(key); err != nil {
		return nil, fmt.Errorf("issuing %s: %w", name, err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return cert, wholefile.Replace(filepath.Join(dir, file), encodePEM("CERTIFICATE", cert.Raw), 0o600)
}

// rootKey loads the root's key, which is used to issue certificates of authorities and revocation lists, and for nothing
// that a guest asks for.
func (p *Processor) rootKey() (*rsa.PrivateKey, error) {
	return readKey(filepath.Join(p.dir, rootDir), arkKeyFile, p.ark)
}

// revocationDays is how long a revocation list is valid.
const revocationDays = 90

// CRL returns the revocation list of a product line's root in DER, as it is now. It names the intermediate that vouches
// for the signing key when the machine plays that fault, and is empty otherwise.
func (p *Processor) CRL(line snp.ProductLine, vlek bool) ([]byte, error) {
	m, err := p.Machine()
	if err != nil {
		return nil, err
	}
	a, err := p.authority(line, vlek)
	if err != nil {
		return nil, fmt.Errorf("issuing revocation list: %w", err)
	}
	key, err := p.rootKey()
	if err != nil {
		return nil, fmt.Errorf("issuing revocation list: %w", err)
	}
	now := time.Now().UTC().Truncate(time.Second)
	issued := now.Add(-time.Hour) // so that who asked a moment ago, or whose clock is behind, can use it
	list := &x509.RevocationList{
		SignatureAlgorithm: x509.SHA384WithRSAPSS,
		Number:             big.NewInt(now.Unix()),
		ThisUpdate:         issued,
		NextUpdate:         now.AddDate(0, 0, revocationDays),
	}
	if m.RevokedIntermediate {
		list.RevokedCertificateEntries = []x509.RevocationListEntry{
			{SerialNumber: a.intermediate.SerialNumber, RevocationTime: issued},
		}
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.ark, key)
	if err != nil {
		return nil, fmt.Errorf("issuing revocation list: %w", err)
	}
	return der, nil
}
