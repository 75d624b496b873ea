// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sync"
)

// KeySize is the size of a volume key in bytes.
const KeySize = 32

// Key is a volume key. It does not show itself.
type Key [KeySize]byte

// String hides the key.
func (Key) String() string { return "[volume key]" }

// GoString hides the key.
func (Key) GoString() string { return "[volume key]" }

// Format hides the key from every verb.
func (Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("[volume key]")) }

const (
	superblockInfo = "cofferdam/volume/superblock/1"
	itemsInfo      = "cofferdam/volume/items/1/"
	itemLabel      = "cofferdam/volume/item/1"

	nonceSize = 12
	tagSize   = 16
	// maxEpoch is what the 31 bits of an entry hold.
	maxEpoch = 1<<31 - 1
	// itemsPerEpoch is how many items one key encrypts, for random nonces of 96 bits.
	itemsPerEpoch = 1 << 31
	// maxCiphers bounds the ciphers that are kept ready.
	maxCiphers = 64
)

// keys are what is derived of a volume key.
type keys struct {
	volume     Key
	id         [16]byte
	superblock []byte

	mu    sync.Mutex
	items map[uint32]cipher.AEAD // by epoch
}

func newKeys(volume Key, id [16]byte) (*keys, error) {
	k := &keys{volume: volume, id: id, items: map[uint32]cipher.AEAD{}}
	var err error
	k.superblock, err = hkdf.Key(sha256.New, volume[:], id[:], superblockInfo, sha256.Size)
	if err != nil {
		return nil, fmt.Errorf("deriving the superblock key: %w", err)
	}
	return k, nil
}

// cipher returns the cipher of an epoch.
func (k *keys) cipher(epoch uint32) (cipher.AEAD, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	c, ok := k.items[epoch]
	if ok {
		return c, nil
	}
	key, err := hkdf.Key(sha256.New, k.volume[:], k.id[:], itemsInfo+string(binary.LittleEndian.AppendUint32(nil, epoch)), 32)
	if err != nil {
		return nil, fmt.Errorf("deriving an item key: %w", err)
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("making an item cipher: %w", err)
	}
	c, err = cipher.NewGCM(block)
	if err != nil {
		return nil, fmt.Errorf("making an item cipher: %w", err)
	}
	if len(k.items) >= maxCiphers {
		clear(k.items)
	}
	k.items[epoch] = c
	return c, nil
}

// label is the additional data of an item: it binds the item to its volume and its place in the tree.
type label [len(itemLabel) + 16 + 1 + 8]byte

func (k *keys) label(level int, index uint64) (l label) {
	n := copy(l[:], itemLabel)
	n += copy(l[n:], k.id[:])
	l[n] = byte(level)
	binary.LittleEndian.PutUint64(l[n+1:], index)
	return l
}
