// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"crypto/pbkdf2"
	"crypto/rand"
	"errors"
	"fmt"

	"golang.org/x/crypto/argon2"
)

// The functions that make a key of a passphrase.
const (
	PBKDF2   = "pbkdf2"
	Argon2id = "argon2id"
	Argon2i  = "argon2i"
)

// Bounds of what a header may ask for. They are above what cryptsetup chooses by itself (1 GiB of memory, two seconds), and
// far below what would keep a machine busy: at most some seconds for one key slot.
const (
	maxIterations   = 1 << 24
	maxDigest       = 1 << 21 // of the digest, which is made once for each key slot that is tried
	maxArgonMemory  = 1 << 20 // in KiB
	maxArgonWork    = 16 << 20
	maxArgonThreads = 16
	// maxTotal bounds the work of all key slots together: this many of the costliest.
	maxTotal = 4
)

// KDF says how a key is made of a passphrase: PBKDF2 with Hash and Iterations, or Argon2id with Time, MemoryKiB and Threads.
// The zero value is refused.
type KDF struct {
	Type       string `json:"type"`
	Hash       string `json:"hash,omitempty"`       // "sha256" or "sha512"
	Iterations int    `json:"iterations,omitempty"` // at least 1000
	Time       int    `json:"time,omitempty"`       // passes
	MemoryKiB  int    `json:"memoryKiB,omitempty"`
	Threads    int    `json:"threads,omitempty"`
}

// DefaultKDF is Argon2id with the costs that RFC 9106 section 4 recommends where memory is scarce: three passes over 64 MiB.
func DefaultKDF() KDF { return KDF{Type: Argon2id, Time: 3, MemoryKiB: 64 << 10, Threads: 4} }

// EncfsKDF is what fits a key slot whose passphrase is a random key of 32 bytes or more, which no costs make any safer.
func EncfsKDF() KDF { return KDF{Type: PBKDF2, Hash: "sha256", Iterations: 1000} }

// salted returns the form that a header has of it, with a random salt.
func (k KDF) salted() (kdf, error) {
	salt := make([]byte, 32)
	_, _ = rand.Read(salt) // never fails
	d := kdf{k.Type, k.Hash, k.Iterations, k.Time, k.MemoryKiB, k.Threads, salt}
	if d.Type == Argon2i {
		return kdf{}, errors.New("key derivation: Argon2i is for reading alone")
	}
	return d, d.validate()
}

func (k kdf) public() KDF { return KDF{k.Type, k.Hash, k.Iterations, k.Time, k.Memory, k.CPUs} }

func (k kdf) validate() error {
	if n := len(k.Salt); n < minSalt || n > maxSalt {
		return fmt.Errorf("salt: expected %d to %d bytes, got %d", minSalt, maxSalt, n)
	}
	switch k.Type {
	case PBKDF2:
		if newHash(k.Hash) == nil {
			return badHash(k.Hash)
		}
		if k.Iterations < 1 || k.Iterations > maxIterations {
			return fmt.Errorf("iterations: expected 1 to %d, got %d", maxIterations, k.Iterations)
		}
	case Argon2id, Argon2i:
		if k.CPUs < 1 || k.CPUs > maxArgonThreads || k.Memory < 8*k.CPUs || k.Memory > maxArgonMemory {
			return fmt.Errorf("%s: memory of %d KiB for %d threads: expected 8 for each to %d, and 1 to %d threads", k.Type, k.Memory, k.CPUs, maxArgonMemory,
				maxArgonThreads)
		}
		if k.Time < 1 || k.Time > maxArgonWork/k.Memory {
			return fmt.Errorf("%s: %d passes over %d KiB: expected 1 to %d KiB in all", k.Type, k.Time, k.Memory, maxArgonWork)
		}
	default:
		return fmt.Errorf("key derivation %.32q: expected %q or %q", k.Type, PBKDF2, Argon2id)
	}
	return nil
}

// cost is work: iterations of PBKDF2, and KiB that Argon2 passes over.
type cost struct{ iterations, kib int64 }

func (k kdf) cost() cost {
	if k.Type == PBKDF2 {
		return cost{iterations: int64(k.Iterations)}
	}
	return cost{kib: int64(k.Time) * int64(k.Memory)}
}

func (c *cost) add(d cost) { c.iterations, c.kib = c.iterations+d.iterations, c.kib+d.kib }

func (c *cost) bound() error {
	if c.iterations > maxTotal*maxIterations || c.kib > maxTotal*maxArgonWork {
		return fmt.Errorf("%d iterations and %d KiB of work are more than %d and %d", c.iterations, c.kib, maxTotal*maxIterations, maxTotal*maxArgonWork)
	}
	return nil
}

// derive makes a key of the given size. The costs are valid.
func (k kdf) derive(passphrase []byte, size int) ([]byte, error) {
	switch k.Type {
	case PBKDF2:
		return pbkdf2.Key(newHash(k.Hash), string(passphrase), k.Salt, k.Iterations, size)
	case Argon2id:
		return argon2.IDKey(passphrase, k.Salt, uint32(k.Time), uint32(k.Memory), uint8(k.CPUs), uint32(size)), nil
	case Argon2i:
		return argon2.Key(passphrase, k.Salt, uint32(k.Time), uint32(k.Memory), uint8(k.CPUs), uint32(size)), nil
	}
	return nil, fmt.Errorf("key derivation %.32q is unknown", k.Type)
}
