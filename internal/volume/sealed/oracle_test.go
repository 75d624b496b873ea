// SPDX-License-Identifier: Apache-2.0

package sealed

import (
	"bytes"
	"crypto/aes"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/hkdf"
	"golang.org/x/crypto/xts"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/volume/erofs"
)

// decrypted decrypts a whole image with others' code and the text of the format.
func decrypted(t *testing.T, image []byte, f Facts) (plain, salt []byte) {
	t.Helper()
	derive := func(info string, n int) []byte {
		out := make([]byte, n)
		if _, err := io.ReadFull(hkdf.New(sha256.New, testKey[:], f.ID[:], []byte(info)), out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	c, err := xts.NewCipher(aes.NewCipher, derive("cofferdam/volume/sealed/data/1", 64))
	if err != nil {
		t.Fatal(err)
	}
	plain = make([]byte, len(image))
	for off := 0; off < len(image); off += 4096 {
		c.Decrypt(plain[off:off+4096], image[off:off+4096], uint64(off/512))
	}
	return plain, derive("cofferdam/volume/sealed/salt/1", 32)
}

func write(t *testing.T, b []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestVeritysetup decrypts an image with another cipher, and has veritysetup verify what comes out.
func TestVeritysetup(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Veritysetup)
	for name, size := range map[string]int{"one level": 1000, "full level": 126 * BlockSize, "two levels": 3 << 20, "three levels": 65 << 20} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			short(t, size)
			s, f := build(t, files(size), Options{})
			image, salt := decrypted(t, s.b, f)
			path := write(t, image)
			offset := fmt.Sprintf("--hash-offset=%d", f.Size)
			run := func(args ...string) (string, error) {
				out, err := exec.CommandContext(t.Context(), "veritysetup", args...).CombinedOutput()
				return string(out), err
			}
			out, err := run("verify", path, path, fmt.Sprintf("%x", f.Root), offset)
			if err != nil {
				t.Fatalf("veritysetup verify: %v\n%s", err, out)
			}
			out, err = run("dump", path, offset)
			if err != nil || !strings.Contains(out, fmt.Sprintf("%x", salt)) || !strings.Contains(out, fmt.Sprintf("%x-%x", f.ID[:4], f.ID[4:6])) {
				t.Errorf("veritysetup dump: %v\n%s", err, out)
			}
			image[f.Size/2] ^= 1
			path = write(t, image)
			if out, err = run("verify", path, path, fmt.Sprintf("%x", f.Root), offset); err == nil {
				t.Errorf("veritysetup accepts a change:\n%s", out)
			}
			// Made by the tool itself, of the same data with the same salt, the tree is the same.
			made := filepath.Join(t.TempDir(), "tree")
			out, err = run("format", path, made, fmt.Sprintf("--data-blocks=%d", f.Size/BlockSize), fmt.Sprintf("--salt=%x", salt),
				fmt.Sprintf("--uuid=%x-%x-%x-%x-%x", f.ID[:4], f.ID[4:6], f.ID[6:8], f.ID[8:10], f.ID[10:]))
			if err != nil || strings.Contains(out, fmt.Sprintf("%x", f.Root)) {
				t.Fatalf("veritysetup format of what was changed: %v\n%s", err, out)
			}
			image[f.Size/2] ^= 1
			path = write(t, image[:f.Size])
			out, err = run("format", path, made, fmt.Sprintf("--salt=%x", salt), fmt.Sprintf("--uuid=%x-%x-%x-%x-%x", f.ID[:4], f.ID[4:6], f.ID[6:8], f.ID[8:10], f.ID[10:]))
			if err != nil || !strings.Contains(out, fmt.Sprintf("%x", f.Root)) {
				t.Fatalf("veritysetup format: %v\n%s", err, out)
			}
			tree, err := os.ReadFile(made)
			if err != nil || !bytes.Equal(tree, image[f.Size:]) {
				t.Errorf("veritysetup makes another tree: %v", err)
			}
		})
	}
}

// TestFilesystem has what a device reads be checked as a filesystem.
func TestFilesystem(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Erofs)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "note"), []byte("a note of the owner's"), 0o600); err != nil {
		t.Fatal(err)
	}
	tree, err := erofs.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tree.Close() }() // only read
	s := &storage{}
	f, err := Build(t.Context(), tree, s, testKey, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(s.b, []byte("a note of")) {
		t.Error("the image shows what is sealed")
	}
	b, err := io.ReadAll(io.NewSectionReader(mustOpen(t, s, f, OpenOptions{}), 0, f.Size))
	if err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	text, err := exec.CommandContext(t.Context(), "fsck.erofs", "--extract="+out, write(t, b)).CombinedOutput()
	if err != nil {
		t.Fatalf("fsck.erofs: %v\n%s", err, text)
	}
	note, err := os.ReadFile(filepath.Join(out, "note"))
	if err != nil || string(note) != "a note of the owner's" {
		t.Errorf("the note is %q, %v", note, err)
	}
}
