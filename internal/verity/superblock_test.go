// SPDX-License-Identifier: Apache-2.0

package verity

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/Microsoft/hcsshim/ext4/dmverity"
	"pgregory.net/rapid"
)

func TestSuperblockRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		want := Superblock{
			UUID:       [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(r, "uuid")),
			DataBlocks: rapid.Uint64Range(MinDataBlocks, MaxDataBlocks).Draw(r, "blocks"),
		}
		b := want.Marshal()
		if len(b) != BlockSize {
			r.Fatalf("length is %d, want %d", len(b), BlockSize)
		}
		for _, n := range []int{512, BlockSize} {
			got, err := ParseSuperblock(b[:n])
			if err != nil {
				r.Fatal(err)
			}
			if got != want {
				r.Fatalf("got %+v, want %+v", got, want)
			}
		}
	})
}

func TestSuperblockAgainstReference(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	err := binary.Write(&b, binary.LittleEndian, dmverity.NewDMVeritySuperblock(77*BlockSize))
	if err != nil {
		t.Fatal(err)
	}
	super, err := ParseSuperblock(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if super.DataBlocks != 77 {
		t.Errorf("it covers %d blocks, want 77", super.DataBlocks)
	}
	if !bytes.Equal(super.Marshal()[:b.Len()], b.Bytes()) {
		t.Error("the bytes differ from the reference's")
	}
}

// TestSuperblockStrict changes each byte: only the UUID and the number of blocks may vary.
func TestSuperblockStrict(t *testing.T) {
	t.Parallel()
	good := Superblock{DataBlocks: 1000}.Marshal()
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 0x40
		_, err := ParseSuperblock(b)
		free := i >= sbUUID && i < sbAlgorithm || i >= sbBlocks && i < sbBlocks+4
		if free && err != nil {
			t.Errorf("byte %d: %v", i, err)
		}
		if !free && !errors.Is(err, ErrSuperblock) {
			t.Errorf("byte %d: error is %v, want one that wraps %v", i, err, ErrSuperblock)
		}
	}
	for _, n := range []int{0, 1, 511} {
		_, err := ParseSuperblock(good[:n])
		if !errors.Is(err, ErrSuperblock) {
			t.Errorf("%d bytes: error is %v, want one that wraps %v", n, err, ErrSuperblock)
		}
	}
	_, err := ParseSuperblock(Superblock{DataBlocks: 1}.Marshal())
	if !errors.Is(err, ErrSuperblock) {
		t.Errorf("one block: error is %v, want one that wraps %v", err, ErrSuperblock)
	}
}

func FuzzParseSuperblock(f *testing.F) {
	f.Add(Superblock{DataBlocks: 2}.Marshal())
	f.Add(Superblock{UUID: [16]byte{1, 2, 3}, DataBlocks: MaxDataBlocks}.Marshal()[:512])
	f.Add([]byte("verity\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := ParseSuperblock(b)
		if err != nil {
			if s != (Superblock{}) {
				t.Errorf("a refused superblock gave %+v", s)
			}
			return
		}
		n := min(len(b), BlockSize)
		if !bytes.Equal(s.Marshal()[:n], b[:n]) {
			t.Error("an accepted superblock does not marshal to its bytes")
		}
	})
}

// ext4Superblock returns the facts that ParseExt4 reads, in their places.
func ext4Superblock(change func(b []byte)) []byte {
	b := make([]byte, Ext4SuperblockSize)
	binary.LittleEndian.PutUint32(b[extBlocksLow:], 12345)
	binary.LittleEndian.PutUint32(b[extLogBlockSize:], 2)
	binary.LittleEndian.PutUint16(b[extMagic:], extMagicValue)
	change(b)
	return b
}

func TestParseExt4(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		change func(b []byte)
		ok     bool
	}{
		{"good", func([]byte) {}, true},
		{"magic", func(b []byte) { b[extMagic]++ }, false},
		{"block size", func(b []byte) { b[extLogBlockSize] = 0 }, false},
		{"huge block size", func(b []byte) { b[extLogBlockSize+3] = 0xff }, false},
		{"no blocks", func(b []byte) { clear(b[extBlocksLow : extBlocksLow+4]) }, false},
		{"64-bit", func(b []byte) { b[extIncompat] = extIncompat64bit }, false},
	}
	for _, tt := range tests {
		got, err := ParseExt4(ext4Superblock(tt.change))
		if tt.ok && (err != nil || got.Blocks != 12345) {
			t.Errorf("%s: got %+v, %v", tt.name, got, err)
		}
		if !tt.ok && !errors.Is(err, ErrExt4) {
			t.Errorf("%s: error is %v, want one that wraps %v", tt.name, err, ErrExt4)
		}
	}
	_, err := ParseExt4(make([]byte, Ext4SuperblockSize-1))
	if !errors.Is(err, ErrExt4) {
		t.Errorf("short: error is %v, want one that wraps %v", err, ErrExt4)
	}
}

func FuzzParseExt4(f *testing.F) {
	f.Add(ext4Superblock(func([]byte) {}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseExt4(b)
		if err == nil && (e.Blocks == 0 || e.Blocks > MaxDataBlocks) {
			t.Errorf("it has %d blocks", e.Blocks)
		}
	})
}
