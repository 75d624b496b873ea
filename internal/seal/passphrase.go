// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// KindPassphrase is a root under a passphrase.
const KindPassphrase = "passphrase"

// Costs of Argon2id: the second recommended choice of RFC 9106 section 4 with its memory of 64 MiB. Files say their own
// costs, within the limits, so that these may grow.
const (
	argonTime      = 3
	argonMemoryKiB = 64 << 10
	argonThreads   = 4
	saltSize       = 16

	maxArgonTime      = 64
	maxArgonMemoryKiB = 1 << 20
	// maxArgonWork bounds passes times memory at sixteen times ours: a file that someone else wrote must not take minutes.
	maxArgonWork = 16 * argonTime * argonMemoryKiB
)

// MinPassphrase is the least length of a passphrase in bytes.
const MinPassphrase = 12

type argonCost struct {
	Time      uint32 `json:"time"`
	MemoryKiB uint32 `json:"memoryKiB"`
	Threads   uint8  `json:"threads"`
	Salt      []byte `json:"salt"`
}

func (a *argonCost) validate() error {
	if a == nil || a.Time == 0 || a.Time > maxArgonTime || a.MemoryKiB < 8*uint32(a.Threads) || a.MemoryKiB > maxArgonMemoryKiB ||
		uint64(a.Time)*uint64(a.MemoryKiB) > maxArgonWork || a.Threads == 0 || len(a.Salt) < saltSize {
		return errors.New("its costs of Argon2id are missing or out of range")
	}
	return nil
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
