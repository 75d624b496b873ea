// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
)

// entry describes one item: its place, its epoch, its nonce and its tag. The zero entry is an item that was never
// written.
type entry [entrySize]byte

const placeBit = 1 << 31

func (e *entry) empty() bool   { return *e == entry{} }
func (e *entry) place() uint8  { return uint8(binary.LittleEndian.Uint32(e[:]) >> 31) }
func (e *entry) epoch() uint32 { return binary.LittleEndian.Uint32(e[:]) &^ placeBit }
func (e *entry) nonce() []byte { return e[4 : 4+nonceSize] }
func (e *entry) tag() []byte   { return e[4+nonceSize:] }

func (e *entry) set(place uint8, epoch uint32) {
	binary.LittleEndian.PutUint32(e[:], uint32(place)<<31|epoch)
}

// ErrDamaged says that what the storage returned is not what was written there last: it was changed, moved, put back or
// lost. The error names the item.
var ErrDamaged = errors.New("the storage returned what was not written there last")

// damaged names an item that did not pass.
func damaged(level int, index uint64) error {
	if level == 0 {
		return fmt.Errorf("block %d: %w", index, ErrDamaged)
	}
	return fmt.Errorf("node %d of level %d: %w", index, level, ErrDamaged)
}

// seal encrypts plain to the beginning of out, which has room for a tag behind it, and fills in e but for its place.
func seal(c cipher.AEAD, e *entry, out, plain []byte, l *label) {
	sealed := c.Seal(out[:0], e.nonce(), plain, l[:])
	copy(e.tag(), sealed[len(plain):])
}

// open decrypts buf[:BlockSize] in place. If there are bytes behind it they are borrowed, and what they held is put back.
func open(c cipher.AEAD, e *entry, buf []byte, l *label) error {
	if len(buf) >= BlockSize+tagSize {
		return openBorrowing(c, e, buf, l)
	}
	room := rooms.Get().(*[BlockSize + tagSize]byte) // nothing else is put there
	defer rooms.Put(room)
	copy(room[:], buf[:BlockSize])
	err := openBorrowing(c, e, room[:], l)
	copy(buf, room[:BlockSize])
	return err
}

// rooms are for blocks with nothing behind them.
var rooms = sync.Pool{New: func() any { return new([BlockSize + tagSize]byte) }}

func openBorrowing(c cipher.AEAD, e *entry, buf []byte, l *label) error {
	var kept [tagSize]byte
	behind := buf[BlockSize : BlockSize+tagSize]
	copy(kept[:], behind)
	copy(behind, e.tag())
	data := *l // so that the caller's need not be on the heap
	_, err := c.Open(buf[:0], e.nonce(), buf[:BlockSize+tagSize], data[:])
	copy(behind, kept[:])
	return err
}
