// SPDX-License-Identifier: Apache-2.0

package verity

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/Microsoft/hcsshim/ext4/dmverity"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"cofferdam.dev/internal/testcap"
)

// memory is storage in memory.
type memory struct{ b []byte }

func (m *memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.b).ReadAt(p, off)
}

func (m *memory) WriteAt(p []byte, off int64) (int, error) { return copy(m.b[off:], p), nil }

// noise returns blocks that are the same in each run.
func noise(blocks int) []byte {
	b := make([]byte, blocks*BlockSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

// build returns the root and the tree of data, with the tree at an offset to catch confusions of offsets.
func build(t testing.TB, data []byte) (Digest, []byte) {
	t.Helper()
	const offset = 3 * BlockSize
	blocks := uint64(len(data) / BlockSize)
	n, err := TreeBlocks(blocks)
	if err != nil {
		t.Fatal(err)
	}
	tree := &memory{make([]byte, offset+int(n)*BlockSize)}
	for i := range tree.b {
		tree.b[i] = 0xaa // so that missing padding shows
	}
	root, err := Build(t.Context(), bytes.NewReader(data), blocks, tree, offset)
	if err != nil {
		t.Fatal(err)
	}
	err = Verify(t.Context(), bytes.NewReader(data), blocks, tree, offset, root)
	if err != nil {
		t.Fatal(err)
	}
	return root, tree.b[offset:]
}

var sizes = []int{2, 3, 127, 128, 129, 255, 256, 1000, 128 * 128, 128*128 + 1}

func TestAgainstReference(t *testing.T) {
	t.Parallel()
	for _, blocks := range sizes {
		data := noise(blocks)
		root, tree := build(t, data)
		want, err := dmverity.MerkleTree(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(tree, want) {
			t.Errorf("%d blocks: trees differ", blocks)
		}
		if wantRoot := dmverity.RootHash(want); !bytes.Equal(root[:], wantRoot) {
			t.Errorf("%d blocks: root is %x, want %x", blocks, root, wantRoot)
		}
	}
}

func TestAgainstVeritysetup(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Veritysetup)
	for _, blocks := range []int{2, 129, 5000} {
		dir := t.TempDir()
		data, hash := filepath.Join(dir, "data"), filepath.Join(dir, "hash")
		content := noise(blocks)
		err := os.WriteFile(data, content, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "veritysetup", "format", "--salt", strings.Repeat("00", SaltSize), data, hash).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		m := regexp.MustCompile(`Root hash:\s+([0-9a-f]{64})`).FindSubmatch(out)
		if m == nil {
			t.Fatalf("no root hash in %s", out)
		}
		root, tree := build(t, content)
		if got := hex.EncodeToString(root[:]); got != string(m[1]) {
			t.Errorf("%d blocks: root is %s, want %s", blocks, got, m[1])
		}
		theirs, err := os.ReadFile(hash)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(tree, theirs[BlockSize:]) {
			t.Errorf("%d blocks: trees differ", blocks)
		}
		super, err := ParseSuperblock(theirs[:BlockSize])
		if err != nil {
			t.Fatal(err)
		}
		if super.DataBlocks != uint64(blocks) || !bytes.Equal(super.Marshal(), theirs[:BlockSize]) {
			t.Errorf("%d blocks: the superblock differs", blocks)
		}
		// And the other way: veritysetup accepts what we write.
		err = os.WriteFile(hash, append(super.Marshal(), tree...), 0o600)
		if err != nil {
			t.Fatal(err)
		}
		out, err = exec.CommandContext(t.Context(), "veritysetup", "verify", data, hash, hex.EncodeToString(root[:])).CombinedOutput()
		if err != nil {
			t.Errorf("%d blocks: veritysetup refuses our tree: %v: %s", blocks, err, out)
		}
	}
}

// TestVerifyFindsEveryChange flips one bit anywhere in data or tree.
func TestVerifyFindsEveryChange(t *testing.T) {
	t.Parallel()
	const blocks = 300
	data := noise(blocks)
	root, tree := build(t, data)
	rapid.Check(t, func(r *rapid.T) {
		d, h := bytes.Clone(data), bytes.Clone(tree)
		bit := rapid.IntRange(0, 8*(len(d)+len(h))-1).Draw(r, "bit")
		if at := bit / 8; at < len(d) {
			d[at] ^= 1 << (bit % 8)
		} else {
			h[at-len(d)] ^= 1 << (bit % 8)
		}
		err := Verify(context.Background(), bytes.NewReader(d), blocks, &memory{h}, 0, root)
		if !errors.Is(err, ErrMismatch) {
			r.Fatalf("error is %v, want one that wraps %v", err, ErrMismatch)
		}
	})
	err := Verify(t.Context(), bytes.NewReader(data), blocks, &memory{tree}, 0, Digest{})
	if !errors.Is(err, ErrMismatch) {
		t.Errorf("with a wrong root: error is %v, want one that wraps %v", err, ErrMismatch)
	}
}

func TestShortData(t *testing.T) {
	t.Parallel()
	_, err := Build(t.Context(), bytes.NewReader(noise(9)), 10, &memory{make([]byte, BlockSize)}, 0)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("error is %v, want one that wraps %v", err, io.ErrUnexpectedEOF)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Build(ctx, bytes.NewReader(noise(1000)), 1000, &memory{make([]byte, 9*BlockSize)}, 0)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want one that wraps %v", err, context.Canceled)
	}
}

func TestLayout(t *testing.T) {
	t.Parallel()
	tests := []struct {
		blocks uint64
		want   []Level
	}{
		{2, []Level{{0, 1}}},
		{128, []Level{{0, 1}}},
		{129, []Level{{1, 2}, {0, 1}}},
		{128*128 + 1, []Level{{3, 129}, {1, 2}, {0, 1}}},
		{MaxDataBlocks, []Level{{1 + 16 + 1<<11 + 1<<18, 1 << 25}, {1 + 16 + 1<<11, 1 << 18}, {1 + 16, 1 << 11}, {1, 16}, {0, 1}}},
	}
	for _, tt := range tests {
		got, err := Layout(tt.blocks)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%d blocks: levels differ (-want +got):\n%s", tt.blocks, diff)
		}
	}
	for _, blocks := range []uint64{0, 1, MaxDataBlocks + 1, 1 << 63} {
		_, err := Layout(blocks)
		if !errors.Is(err, ErrSize) {
			t.Errorf("%d blocks: error is %v, want one that wraps %v", blocks, err, ErrSize)
		}
	}
}

func BenchmarkBuild(b *testing.B) {
	data := noise(50_000)
	n, err := TreeBlocks(50_000)
	if err != nil {
		b.Fatal(err)
	}
	tree := &memory{make([]byte, n*BlockSize)}
	b.Run("cofferdam", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			_, err := Build(b.Context(), bytes.NewReader(data), 50_000, tree, 0)
			if err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("reference", func(b *testing.B) {
		b.SetBytes(int64(len(data)))
		b.ReportAllocs()
		for b.Loop() {
			_, err := dmverity.MerkleTree(bytes.NewReader(data))
			if err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestZeroBlocks hashes blocks of zeros, whose digest is computed once, among others and among some that almost are.
func TestZeroBlocks(t *testing.T) {
	t.Parallel()
	data := noise(300)
	for _, b := range []int{0, 7, 8, 9, 128, 299} {
		clear(data[b*BlockSize:][:BlockSize])
	}
	data[9*BlockSize-1], data[128*BlockSize] = 1, 1 // the last and the first byte of a block
	root, tree := build(t, data)
	want, err := dmverity.MerkleTree(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(tree, want) || !bytes.Equal(root[:], dmverity.RootHash(want)) {
		t.Error("trees differ")
	}
}
