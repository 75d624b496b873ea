// SPDX-License-Identifier: Apache-2.0

package mapped

import (
	"encoding/hex"
	"errors"
	"fmt"
)

const (
	// unit is what tables count in, in bytes, whatever the size of sectors.
	unit = 512
	// blockSize is that of sealed volumes, of their data and of their tree.
	blockSize = 4096
)

// ErrFacts says that the kernel can not be told what a volume is.
var ErrFacts = errors.New("the kernel's drivers have no such volumes")

// Plan is what the kernel is told of a volume, with its keys. It does not show itself. The zero value opens nothing.
type Plan struct{ layers []layer }

// layer is one mapping: a target whose parameters name the device below it between two texts.
type layer struct {
	kind    string
	sectors uint64
	params  func(below string) []byte
	secret  []byte
}

const redacted = "[what the kernel is told of a volume]"

// String hides the keys.
func (*Plan) String() string { return redacted }

// GoString hides the keys.
func (*Plan) GoString() string { return redacted }

// LUKS2 is a plan of a LUKS2 volume that is encrypted with aes-xts-plain64 in sectors of a size, the one cipher that is
// opened: the data are size bytes of the image from an offset on. The key is copied.
func LUKS2(key []byte, offset, size int64, sectorSize int) (*Plan, error) {
	l, err := crypt(key, offset, size, sectorSize)
	if err != nil {
		return nil, err
	}
	return &Plan{[]layer{l}}, nil
}

// Sealed is a plan of a sealed volume: the tables that the format's specification has (docs/design/0008). The size is that of
// the data, image that of the whole, both in bytes. The keys are copied.
func Sealed(dataKey, salt, root []byte, size, image int64) (*Plan, error) {
	if len(dataKey) != 64 || len(salt) != 32 || len(root) != 32 || size <= 0 || size%blockSize != 0 || image <= size {
		return nil, fmt.Errorf("%w: %d bytes of an image of %d, keys of %d and %d, a root of %d", ErrFacts, size, image, len(dataKey), len(salt), len(root))
	}
	l, err := crypt(dataKey, 0, image, blockSize)
	if err != nil {
		return nil, err
	}
	salted := append([]byte(nil), salt...)
	text := hex.EncodeToString(root)
	// Version 1, the same device for data and tree, both in blocks of 4096; the tree follows its superblock.
	params := func(below string) []byte {
		b := fmt.Appendf(make([]byte, 0, 512), "1 %s %s %d %d %d %d sha256 %s ", below, below, blockSize, blockSize, size/blockSize, size/blockSize+1, text)
		return hex.AppendEncode(b, salted)
	}
	return &Plan{[]layer{l, {"verity", uint64(size / unit), params, salted}}}, nil
}

func crypt(key []byte, offset, size int64, sectorSize int) (layer, error) {
	if len(key) != 32 && len(key) != 64 || offset < 0 || offset%unit != 0 || size <= 0 || size%int64(max(sectorSize, unit)) != 0 ||
		sectorSize < unit || sectorSize > blockSize || sectorSize&(sectorSize-1) != 0 {
		return layer{}, fmt.Errorf("%w: %d bytes at %d in sectors of %d, a key of %d", ErrFacts, size, offset, sectorSize, len(key))
	}
	kept := append([]byte(nil), key...)
	params := func(below string) []byte {
		b := append(make([]byte, 0, 512), "aes-xts-plain64 "...)
		b = hex.AppendEncode(b, kept)
		return fmt.Appendf(b, " 0 %s %d 1 sector_size:%d", below, offset/unit, sectorSize)
	}
	return layer{"crypt", uint64(size / unit), params, kept}, nil
}

// Destroy wipes the keys. The plan opens nothing any more.
func (p *Plan) Destroy() {
	if p == nil {
		return
	}
	for _, l := range p.layers {
		clear(l.secret)
	}
	p.layers = nil
}
