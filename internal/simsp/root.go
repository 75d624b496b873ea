// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/wholefile"
)

const rsaBits = 4096

// Names inside the directory. The root is one directory, so that one rename makes it appear whole.
const (
	lockFile   = "lock"
	rootDir    = "root"
	tempPrefix = "root.tmp-"

	arkCertFile = "ark.pem"
	askCertFile = "ask.pem"
	arkKeyFile  = "ark.key"
	askKeyFile  = "ask.key"
	chipFile    = "chip.key"
)

// RootCertificatePath returns where the root certificate of the processor in dir lies: that of the product line that is
// simulated now. Other lines have roots of their own, as AMD's have.
func RootCertificatePath(dir string) string {
	m, err := LoadMachine(dir)
	if err == nil {
		if p, err := findProduct(m.Product); err == nil && p.line != snp.Milan {
			return filepath.Join(dir, certificateDir, rootName(p.line)+".pem")
		}
	}
	return filepath.Join(dir, rootDir, arkCertFile)
}

// rootMaterial is what is kept on disk. The root's own key is kept for later intermediates but not loaded.
type rootMaterial struct {
	ark, ask *x509.Certificate
	askKey   *rsa.PrivateKey
	chip     chipSecret
}

// openRoot loads the root, and makes it first when there is none.
func openRoot(dir string) (*rootMaterial, error) {
	root := filepath.Join(dir, rootDir)
	if _, err := os.Lstat(root); err == nil {
		return loadRoot(root)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	unlock, err := lock(filepath.Join(dir, lockFile))
	if err != nil {
		return nil, err
	}
	defer unlock()
	_, err = os.Lstat(root)
	if errors.Is(err, fs.ErrNotExist) { // else another process was first
		err = makeRoot(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("making root: %w", err)
	}
	return loadRoot(root)
}

// lock takes an exclusive lock that the kernel releases when the process dies.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	if err != nil {
		_ = f.Close() // the lock's error says more
		return nil, fmt.Errorf("locking %s: %w", path, err)
	}
	return func() { _ = f.Close() }, nil // closing unlocks, and nothing was written
}

// makeRoot makes keys and certificates in a temporary directory and renames it into place. The caller holds the lock.
func makeRoot(dir string) error {
	if err := removeLeftovers(dir); err != nil {
		return err
	}
	files, err := newRootFiles(time.Now().UTC().Truncate(time.Second))
	if err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(dir, tempPrefix) // has mode 0700
	if err != nil {
		return err
	}
	for name, b := range files {
		if err := writeFile(filepath.Join(tmp, name), b); err != nil {
			return err
		}
	}
	if err := wholefile.SyncDir(tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, filepath.Join(dir, rootDir)); err != nil {
		return err
	}
	return wholefile.SyncDir(dir)
}

// removeLeftovers removes what a process left that died while it made a root.
func removeLeftovers(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), tempPrefix) {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// newRootFiles makes the content of a root directory. The two RSA keys are made in parallel.
func newRootFiles(now time.Time) (map[string][]byte, error) {
	type result struct {
		key *rsa.PrivateKey
		err error
	}
	other := make(chan result, 1)
	go func() {
		k, err := rsa.GenerateKey(rand.Reader, rsaBits)
		other <- result{k, err}
	}()
	arkKey, err := rsa.GenerateKey(rand.Reader, rsaBits)
	second := <-other
	if err := errors.Join(err, second.err); err != nil {
		return nil, fmt.Errorf("generating keys: %w", err)
	}
	ark, ask, err := issueCAs(arkKey, second.key, now)
	if err != nil {
		return nil, err
	}
	var chip chipSecret
	_, _ = rand.Read(chip[:]) // never fails: the runtime ends the process instead
	files := map[string][]byte{
		arkCertFile: encodePEM("CERTIFICATE", ark.Raw),
		askCertFile: encodePEM("CERTIFICATE", ask.Raw),
		chipFile:    encodePEM("SIMULATED CHIP SECRET", chip[:]),
	}
	for name, key := range map[string]*rsa.PrivateKey{arkKeyFile: arkKey, askKeyFile: second.key} {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, fmt.Errorf("encoding %s: %w", name, err)
		}
		files[name] = encodePEM("PRIVATE KEY", der)
	}
	return files, nil
}

func loadRoot(root string) (*rootMaterial, error) {
	m := &rootMaterial{}
	var err error
	if m.ark, err = readCertificate(root, arkCertFile); err != nil {
		return nil, err
	}
	if m.ask, err = readCertificate(root, askCertFile); err != nil {
		return nil, err
	}
	if m.askKey, err = readKey(root, askKeyFile, m.ask); err != nil {
		return nil, err
	}
	chip, err := readPEM(root, chipFile, "SIMULATED CHIP SECRET")
	if err != nil {
		return nil, err
	}
	if len(chip) != len(m.chip) {
		return nil, fmt.Errorf("%s holds %d bytes, not %d", chipFile, len(chip), len(m.chip))
	}
	m.chip = chipSecret(chip)
	return m, nil
}

// readKey reads the private key of a certificate.
func readKey(root, name string, cert *x509.Certificate) (*rsa.PrivateKey, error) {
	der, err := readPEM(root, name, "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("parsing %s: %w", name, err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, fmt.Errorf("%s does not belong to the certificate of %s", name, cert.Subject.CommonName)
	}
	return key, nil
}

func readCertificate(root, name string) (*x509.Certificate, error) {
	der, err := readPEM(root, name, "CERTIFICATE")
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parsing %s: %w", name, err)
	}
	return cert, nil
}

// readPEM reads a file that only its owner may read and that holds one PEM block of a type.
func readPEM(root, name, kind string) ([]byte, error) {
	path := filepath.Join(root, name)
	b, err := readPrivate(path)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != kind || len(rest) != 0 {
		return nil, fmt.Errorf("%s does not hold exactly one PEM block %q", path, kind)
	}
	return block.Bytes, nil
}

// readPrivate reads a file that only its owner may read.
func readPrivate(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %s, not that of a file for its owner alone (-rw-------)", path, info.Mode())
	}
	return os.ReadFile(path)
}

func encodePEM(kind string, b []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b})
}

func writeFile(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}
