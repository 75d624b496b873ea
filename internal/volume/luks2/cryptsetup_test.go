// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/testcap"
)

// cryptsetup runs the program with a passphrase on its standard input, and returns what it printed.
func cryptsetup(t *testing.T, passphrase string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "cryptsetup", append([]string{"--batch-mode", "--disable-locks"}, args...)...)
	cmd.Stdin = strings.NewReader(passphrase)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}

func mustCryptsetup(t *testing.T, passphrase string, args ...string) string {
	t.Helper()
	out, err := cryptsetup(t, passphrase, args...)
	if err != nil {
		t.Fatalf("cryptsetup %v: %v\n%s", args, err, out)
	}
	return out
}

// TestCryptsetupOpensOurs holds volumes that we made to cryptsetup: what it says of them, which passphrases open them, and
// which volume key they give.
func TestCryptsetupOpensOurs(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Cryptsetup)
	for name, c := range map[string]struct {
		keySize, sector int
		kdf             KDF
		dataSize        int64
	}{
		"pbkdf2":   {64, 4096, quick, 0},
		"sha512":   {64, 512, KDF{Type: PBKDF2, Hash: "sha512", Iterations: 1000}, 0},
		"argon2id": {64, 1024, KDF{Type: Argon2id, Time: 4, MemoryKiB: 64, Threads: 2}, 512 << 10},
		"AES-128":  {32, 2048, quick, 4096},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, key := testFile(t, testSize), testKey(t, c.keySize)
			_, err := Format(f, testSize, key, FormatOptions{
				Label: "a label", Subsystem: "sub", UUID: "01234567-89ab-4cde-8f01-23456789abcd", Offset: testOffset, SectorSize: c.sector,
				DataSize: c.dataSize, Slots: []Slot{{[]byte("one"), c.kdf}, {[]byte("two"), quick}},
			})
			if err != nil {
				t.Fatal(err)
			}
			dump := mustCryptsetup(t, "", "luksDump", f.Name())
			length := "(whole device)"
			if c.dataSize != 0 {
				length = fmt.Sprintf("%d [bytes]", c.dataSize)
			}
			for _, want := range []string{
				"Label:         \ta label", "Subsystem:     \tsub", "UUID:          \t01234567-89ab-4cde-8f01-23456789abcd",
				fmt.Sprintf("offset: %d [bytes]", testOffset), "length: " + length, "cipher: aes-xts-plain64", fmt.Sprintf("sector: %d [bytes]", c.sector),
				fmt.Sprintf("Key:        %d bits", 8*c.keySize), "PBKDF:      " + c.kdf.Type,
			} {
				if !strings.Contains(dump, want) {
					t.Errorf("%q is not in\n%s", want, dump)
				}
			}
			for _, p := range []string{"one", "two"} {
				mustCryptsetup(t, p, "open", "--test-passphrase", f.Name())
				out := filepath.Join(t.TempDir(), "key")
				mustCryptsetup(t, p, "luksDump", "--dump-volume-key", "--volume-key-file", out, f.Name())
				if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, key.Expose()) {
					t.Errorf("passphrase %q gives another volume key (%v)", p, err)
				}
			}
			if out, err := cryptsetup(t, "three", "open", "--test-passphrase", f.Name()); err == nil {
				t.Errorf("a wrong passphrase opens: %s", out)
			}
		})
	}
}

// TestCryptsetupOtherWay opens what cryptsetup made, with every choice that is supported.
func TestCryptsetupOtherWay(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Cryptsetup)
	for name, args := range map[string][]string{
		"pbkdf2":   {"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--sector-size", "512"},
		"argon2id": {"--pbkdf", "argon2id", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "64", "--pbkdf-parallel", "2", "--sector-size", "4096"},
		"argon2i":  {"--pbkdf", "argon2i", "--pbkdf-force-iterations", "4", "--pbkdf-memory", "32", "--pbkdf-parallel", "1"},
		"sha512":   {"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--hash", "sha512"},
		"AES-128":  {"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-size", "256"},
		"metadata": {"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--luks2-metadata-size", "64k", "--luks2-keyslots-size", "512k"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			size := int64(20 << 20)
			f, key := testFile(t, size), testKey(t, 64)
			if name == "AES-128" {
				key = testKey(t, 32)
			}
			keyFile := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(keyFile, key.Expose(), 0o600); err != nil {
				t.Fatal(err)
			}
			mustCryptsetup(t, "one", append(append([]string{"luksFormat", "--type", "luks2", "--volume-key-file", keyFile}, args...), f.Name())...)
			opensWith(t, f, key, "one")
			if h := reopen(t, f); h.Info().Repair {
				t.Error("the copies of the header differ")
			} else if p, err := h.Pin(key); err != nil || h.Verify(p, key) != nil {
				t.Errorf("it can not be pinned: %v", err)
			}
		})
	}
}
