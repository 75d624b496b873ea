// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"sync"

	"cofferdam.dev/internal/verity"
	"cofferdam.dev/internal/volume/xts"
)

const (
	// BlockSize is the size in bytes of the blocks that are encrypted and hashed.
	BlockSize = verity.BlockSize
	// MaxSize is the largest size of a device in bytes: 16 TiB.
	MaxSize = verity.MaxDataBlocks * BlockSize
	// KeySize is the size of a volume key in bytes.
	KeySize = 32

	dataInfo = "cofferdam/volume/sealed/data/1"
	saltInfo = "cofferdam/volume/sealed/salt/1"

	xtsKeySize = 64
	fanOut     = BlockSize / verity.DigestSize
	// Where the salt is in a dm-verity superblock (cryptsetup, "DMVerity" on-disk format).
	superblockSalt = 88
)

// Errors that callers tell apart.
var (
	// ErrDamaged says that what the storage returned is not what was sealed.
	ErrDamaged = errors.New("the storage holds something else than what was sealed")
	// ErrFacts says that no volume can have such facts.
	ErrFacts = errors.New("no volume has such facts")
)

// Key is a volume key. It does not show itself.
type Key [KeySize]byte

const redacted = "[volume key]"

// String hides the key.
func (Key) String() string { return redacted }

// GoString hides the key.
func (Key) GoString() string { return redacted }

// Format hides the key from every verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText hides the key from encoders.
func (Key) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Facts are what must be known of a volume to open it, beside its key. They come from where the storage can not change them: a
// descriptor whose MAC was verified. There is nothing secret in them.
type Facts struct {
	// ID is the volume's own. Keys depend on it.
	ID [16]byte
	// Size is that of the device in bytes, a multiple of BlockSize.
	Size int64
	// Root is the root of the tree.
	Root [verity.DigestSize]byte
}

func (f Facts) validate() error {
	switch {
	case f.ID == [16]byte{}:
		return fmt.Errorf("%w: the volume's ID is missing", ErrFacts)
	case f.Root == [verity.DigestSize]byte{}:
		return fmt.Errorf("%w: the root is missing", ErrFacts)
	case f.Size < verity.MinDataBlocks*BlockSize || f.Size > MaxSize || f.Size%BlockSize != 0:
		return fmt.Errorf("%w: a size of %d bytes, not a multiple of %d from %d to %d", ErrFacts, f.Size, BlockSize, verity.MinDataBlocks*BlockSize, int64(MaxSize))
	}
	return nil
}

// ImageSize is the size in bytes of the image of a device of a size: the data, a superblock, and the tree.
func ImageSize(size int64) (int64, error) {
	g, err := newGeometry(size)
	if err != nil {
		return 0, err
	}
	return g.size(), nil
}

// geometry is where everything lies, in blocks.
type geometry struct {
	data   uint64 // how many blocks of data there are; the superblock follows
	levels []verity.Level
}

func newGeometry(size int64) (geometry, error) {
	if size < 0 || size%BlockSize != 0 {
		return geometry{}, fmt.Errorf("%w: a size of %d bytes", ErrFacts, size)
	}
	g := geometry{data: uint64(size) / BlockSize}
	var err error
	g.levels, err = verity.Layout(g.data)
	if err != nil {
		return geometry{}, fmt.Errorf("%w: %w", ErrFacts, err)
	}
	return g, nil
}

func (g *geometry) size() int64 {
	return int64(g.block(0, g.levels[0].Blocks)) * BlockSize // below 2^45
}

// block is where a block of the tree lies. Level 0 are the leaves, which lie last.
func (g *geometry) block(level int, index uint64) uint64 {
	return g.data + 1 + g.levels[level].First + index
}

// items is how many there are of what a level has the digests of.
func (g *geometry) items(level int) uint64 {
	if level == 0 {
		return g.data
	}
	return g.levels[level-1].Blocks
}

func (g *geometry) top() int { return len(g.levels) - 1 }

// KernelKeys are what the kernel's drivers need beside the facts to open an image: they follow from the volume key.
type KernelKeys struct {
	// Data is the key of dm-crypt, for aes-xts-plain64 with sectors of 4096 bytes that are numbered in units of 512.
	Data [xtsKeySize]byte
	// Salt is that of dm-verity.
	Salt [verity.SaltSize]byte
}

// String hides the keys.
func (KernelKeys) String() string { return redacted }

// GoString hides the keys.
func (KernelKeys) GoString() string { return redacted }

// Format hides the keys from every verb.
func (KernelKeys) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// MarshalText hides the keys from encoders.
func (KernelKeys) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Derive returns the keys of a volume. A volume key of zeros is refused.
func Derive(key Key, id [16]byte) (KernelKeys, error) {
	var k KernelKeys
	if key == (Key{}) {
		return k, errors.New("the volume key is missing")
	}
	data, err := hkdf.Key(sha256.New, key[:], id[:], dataInfo, xtsKeySize)
	if err != nil {
		return k, fmt.Errorf("deriving the data key: %w", err)
	}
	salt, err := hkdf.Key(sha256.New, key[:], id[:], saltInfo, verity.SaltSize)
	if err != nil {
		return k, fmt.Errorf("deriving the salt: %w", err)
	}
	copy(k.Data[:], data)
	copy(k.Salt[:], salt)
	clear(data)
	return k, nil
}

// sealer encrypts and hashes blocks. It is safe for concurrent use.
type sealer struct {
	cipher  *xts.Cipher
	salt    [verity.SaltSize]byte
	hashers sync.Pool
}

// hasher hashes one block at a time.
type hasher struct {
	h   hash.Hash
	sum [verity.DigestSize]byte
}

func newSealer(key Key, id [16]byte) (*sealer, error) {
	keys, err := Derive(key, id)
	if err != nil {
		return nil, err
	}
	defer clear(keys.Data[:])
	s := &sealer{salt: keys.Salt, hashers: sync.Pool{New: func() any { return &hasher{h: sha256.New()} }}}
	s.cipher, err = xts.New(keys.Data[:])
	return s, err
}

// superblock is the block before the tree. Only tools read it: whoever has the facts knows all that it says.
func (s *sealer) superblock(id [16]byte, dataBlocks uint64) []byte {
	b := verity.Superblock{UUID: id, DataBlocks: dataBlocks}.Marshal()
	copy(b[superblockSalt:], s.salt[:])
	return b
}

// digest hashes a block: the salt, then the block, as dm-verity of version 1 does.
func (s *sealer) digest(h *hasher, block []byte) []byte {
	h.h.Reset()
	// A hash never returns an error.
	_, _ = h.h.Write(s.salt[:])
	_, _ = h.h.Write(block)
	return h.h.Sum(h.sum[:0])
}

// matches reports whether blocks have these digests, or which is the first that has not.
func (s *sealer) matches(blocks, digests []byte) (bad int, ok bool) {
	h := s.hashers.Get().(*hasher) // nothing else is put there
	defer s.hashers.Put(h)
	for i := range len(blocks) / BlockSize {
		got := s.digest(h, blocks[i*BlockSize:][:BlockSize])
		if subtle.ConstantTimeCompare(got, digests[i*verity.DigestSize:][:verity.DigestSize]) != 1 {
			return i, false
		}
	}
	return 0, true
}

// appendDigests appends the digests of blocks.
func (s *sealer) appendDigests(dst, blocks []byte) []byte {
	h := s.hashers.Get().(*hasher) // nothing else is put there
	defer s.hashers.Put(h)
	for ; len(blocks) >= BlockSize; blocks = blocks[BlockSize:] {
		dst = append(dst, s.digest(h, blocks[:BlockSize])...)
	}
	return dst
}

// sector is the number of a block's first sector.
func sector(block uint64) uint64 { return block * (BlockSize / xts.Unit) }

func (s *sealer) encrypt(p []byte, block uint64) error {
	return s.cipher.Encrypt(p, p, BlockSize, sector(block))
}

func (s *sealer) decrypt(p []byte, block uint64) error {
	return s.cipher.Decrypt(p, p, BlockSize, sector(block))
}
