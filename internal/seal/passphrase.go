// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/crypto/argon2"

	"cofferdam.dev/internal/wholefile"
)

// fileSchema names the form of a root file.
const fileSchema = "cofferdam.dev/vault-root/v1"

// Kinds of roots.
const (
	KindPassphrase = "passphrase"
)

// Costs of Argon2id: the second recommended choice of RFC 9106 section 4 with its memory of 64 MiB. Files say their own
// costs, within the limits, so that these may grow.
const (
	argonTime      = 3
	argonMemoryKiB = 64 << 10
	argonThreads   = 4
	saltSize       = 16

	maxArgonTime      = 64
	maxArgonMemoryKiB = 1 << 20
)

// MinPassphrase is the least length of a passphrase in bytes.
const MinPassphrase = 12

// maxFile bounds a root file in bytes.
const maxFile = 64 << 10

// document is a root file. Sealed is the root key under the key that Kind says; everything else is bound to it.
type document struct {
	Schema string     `json:"schema"`
	Kind   string     `json:"kind"`
	Argon  *argonCost `json:"argon2id,omitempty"`
	Sealed []byte     `json:"sealed"`
}

type argonCost struct {
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memoryKiB"`
	Threads   uint8  `json:"threads"`
	Salt      []byte `json:"salt"`
}

func (a *argonCost) validate() error {
	if a == nil || a.Time == 0 || a.Time > maxArgonTime || a.MemoryKiB < 8*uint32(a.Threads) || a.MemoryKiB > maxArgonMemoryKiB ||
		a.Threads == 0 || len(a.Salt) < saltSize {
		return errors.New("its costs of Argon2id are missing or out of range")
	}
	return nil
}

// aad binds the fields of the file to the sealed root key.
func (d document) aad() ([]byte, error) {
	d.Sealed = nil
	return json.Marshal(d)
}

// seal puts the root key into the document under key.
func (d *document) seal(key, root *Secret) error {
	aead, err := NewAEAD(key.Expose())
	if err != nil {
		return err
	}
	aad, err := d.aad()
	if err != nil {
		return err
	}
	d.Sealed = aead.Seal(nil, nil, root.Expose(), aad)
	return nil
}

// open returns the root of the document under key.
func (d *document) open(key *Secret) (*Memory, error) {
	root, err := d.openKey(key)
	if err != nil {
		return nil, err
	}
	defer root.Destroy()
	return NewMemory(root, d.Kind)
}

func (d *document) openKey(key *Secret) (*Secret, error) {
	aead, err := NewAEAD(key.Expose())
	if err != nil {
		return nil, err
	}
	aad, err := d.aad()
	if err != nil {
		return nil, err
	}
	root, err := aead.Open(nil, nil, d.Sealed, aad)
	if err != nil {
		return nil, ErrSealed
	}
	return NewSecret(root), nil
}

// create writes a file that is not there yet: a root that is overwritten is a vault that is lost.
func (d *document) create(path string) error {
	_, err := os.Lstat(path)
	if err == nil {
		return fs.ErrExist
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.replace(path)
}

func (d *document) replace(path string) error {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return wholefile.Replace(path, append(b, '\n'), 0o600)
}

func readDocument(path, kind string) (*document, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	var d document
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, err
	}
	if len(b) > maxFile || d.Schema != fileSchema || kind != "" && d.Kind != kind {
		return nil, fmt.Errorf("it has schema %q and kind %q, not %q and %q", d.Schema, d.Kind, fileSchema, kind)
	}
	return &d, nil
}

// FileKind says how the root in a file is kept.
func FileKind(path string) (string, error) {
	d, err := readDocument(path, "")
	if err != nil {
		return "", fmt.Errorf("reading root %s: %w", path, err)
	}
	return d.Kind, nil
}

// CreatePassphrase makes a root with a random key and keeps it in a new file under the passphrase.
func CreatePassphrase(path string, passphrase *Secret) (*Memory, error) {
	root := NewRootKey()
	defer root.Destroy()
	d, err := underPassphrase(root, passphrase)
	if err == nil {
		err = d.create(path)
	}
	if err != nil {
		return nil, fmt.Errorf("making root %s: %w", path, err)
	}
	return NewMemory(root, KindPassphrase)
}

func underPassphrase(root, passphrase *Secret) (*document, error) {
	if n := len(passphrase.Expose()); n < MinPassphrase {
		return nil, fmt.Errorf("the passphrase has %d bytes, fewer than %d", n, MinPassphrase)
	}
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	d := &document{Schema: fileSchema, Kind: KindPassphrase, Argon: &argonCost{argonTime, argonMemoryKiB, argonThreads, salt}}
	key := d.Argon.derive(passphrase)
	defer key.Destroy()
	return d, d.seal(key, root)
}

func (a *argonCost) derive(passphrase *Secret) *Secret {
	return NewSecret(argon2.IDKey(passphrase.Expose(), a.Salt, a.Time, a.MemoryKiB, a.Threads, RootKeySize))
}

// OpenPassphrase opens the root in a file. The error wraps ErrSealed when the passphrase is another.
func OpenPassphrase(path string, passphrase *Secret) (*Memory, error) {
	root, err := passphraseKey(path, passphrase)
	if err != nil {
		return nil, fmt.Errorf("opening root %s: %w", path, err)
	}
	defer root.Destroy()
	return NewMemory(root, KindPassphrase)
}

func passphraseKey(path string, passphrase *Secret) (*Secret, error) {
	d, err := readDocument(path, KindPassphrase)
	if err != nil {
		return nil, err
	}
	if err := d.Argon.validate(); err != nil {
		return nil, err
	}
	key := d.Argon.derive(passphrase)
	defer key.Destroy()
	return d.openKey(key)
}

// ChangePassphrase puts the root of a file under another passphrase. The root stays the same, and so does all it wraps.
func ChangePassphrase(path string, was, is *Secret) error {
	root, err := passphraseKey(path, was)
	if err != nil {
		return fmt.Errorf("opening root %s: %w", path, err)
	}
	defer root.Destroy()
	d, err := underPassphrase(root, is)
	if err == nil {
		err = d.replace(path)
	}
	if err != nil {
		return fmt.Errorf("changing the passphrase of root %s: %w", path, err)
	}
	return nil
}
