// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"cofferdam.dev/internal/testcap"
)

// contentSize is the size of what the programs encrypt and decrypt.
const contentSize = 8 << 20

// run runs a program that must succeed, and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// ext4 returns an ext4 filesystem with a large and a small file.
func ext4(t *testing.T) []byte {
	t.Helper()
	dir := t.TempDir()
	for name, b := range map[string][]byte{"large": noise(4, 3<<20), "small": []byte("a canary\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := testFile(t, contentSize)
	run(t, "mke2fs", "-q", "-F", "-t", "ext4", "-d", dir, f.Name())
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// isExt4 has the filesystem's own tools look at an image, which must hold what ext4 made.
func isExt4(t *testing.T, image []byte) {
	t.Helper()
	f := testFile(t, 0)
	if _, err := f.WriteAt(image, 0); err != nil {
		t.Fatal(err)
	}
	run(t, "e2fsck", "-f", "-n", f.Name())
	if out := run(t, "debugfs", "-R", "cat /small", f.Name()); !strings.Contains(out, "a canary\n") {
		t.Errorf("the small file is %q", out)
	}
	out := filepath.Join(t.TempDir(), "large")
	run(t, "debugfs", "-R", "dump /large "+out, f.Name())
	if b, err := os.ReadFile(out); err != nil || !bytes.Equal(b, noise(4, 3<<20)) {
		t.Errorf("the large file is another (%v)", err)
	}
}

func readAll(t *testing.T, d *Device) []byte {
	t.Helper()
	b := make([]byte, d.Size())
	if n, err := d.ReadAt(b, 0); n != len(b) {
		t.Fatal(err)
	}
	return b
}

// TestCryptsetupEncrypts has cryptsetup encrypt a filesystem, and re-encrypt it: it is read through our device.
func TestCryptsetupEncrypts(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Cryptsetup, testcap.E2fsprogs)
	image := ext4(t)
	f := testFile(t, contentSize+32<<20)
	if _, err := f.WriteAt(image, 0); err != nil {
		t.Fatal(err)
	}
	quick := []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}
	mustCryptsetup(t, "one", append([]string{
		"reencrypt", "--encrypt", "--type", "luks2", "--reduce-device-size", "32M", "--force-offline-reencrypt", f.Name(),
	}, quick...)...)
	for _, step := range []string{"encrypted", "re-encrypted"} {
		h := reopen(t, f)
		key, err := h.Unlock(f, []byte("one"))
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
		if got := readAll(t, device(t, f, h, key)); !bytes.Equal(got[:contentSize], image) {
			t.Errorf("%s: something else is read", step)
		} else {
			isExt4(t, got[:contentSize])
		}
		if step == "encrypted" {
			mustCryptsetup(t, "one", append([]string{"reencrypt", "--force-offline-reencrypt", f.Name()}, quick...)...)
		}
	}
}

// TestCryptsetupDecrypts writes a filesystem through our device: cryptsetup re-encrypts it, and decrypts another one.
func TestCryptsetupDecrypts(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Cryptsetup, testcap.E2fsprogs)
	image := ext4(t)
	for name, sector := range map[string]int{"small sectors": 512, "large sectors": 4096} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			key := testKey(t, 64)
			written := func() *os.File {
				f := testFile(t, contentSize+defaultOffset)
				h, err := Format(f, contentSize+defaultOffset, key, FormatOptions{SectorSize: sector, Slots: []Slot{{[]byte("one"), quick}}})
				if err != nil {
					t.Fatal(err)
				}
				if _, err := device(t, f, h, key).WriteAt(image, 0); err != nil {
					t.Fatal(err)
				}
				return f
			}
			f := written()
			mustCryptsetup(t, "one", "reencrypt", "--force-offline-reencrypt", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", f.Name())
			h := reopen(t, f)
			again, err := h.Unlock(f, []byte("one"))
			if err != nil || bytes.Equal(again.Expose(), key.Expose()) {
				t.Fatalf("the key is the old one, or: %v", err)
			}
			if got := readAll(t, device(t, f, h, again)); !bytes.Equal(got, image) {
				t.Error("re-encrypted: something else is read")
			}
			f = written() // cryptsetup can not decrypt what it re-encrypted
			mustCryptsetup(t, "one", "reencrypt", "--decrypt", "--force-offline-reencrypt", "--header", filepath.Join(t.TempDir(), "header"), f.Name())
			got, err := os.ReadFile(f.Name())
			if err != nil || !bytes.Equal(got[:contentSize], image) {
				t.Errorf("decrypted: something else is read (%v)", err)
			} else {
				isExt4(t, got[:contentSize])
			}
		})
	}
}

// TestCryptsetupSlots has cryptsetup add, change and remove key slots of ours, and ours be added to that.
func TestCryptsetupSlots(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Cryptsetup)
	f, _, key := volume(t, nil)
	quick2 := []string{"--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"}
	mustCryptsetup(t, "one\nthree", append([]string{"luksAddKey", f.Name()}, quick2...)...)
	opensWith(t, f, key, "one", "two", "three")
	mustCryptsetup(t, "two", "luksRemoveKey", f.Name())
	opensWith(t, f, key, "one", "three")

	h := reopen(t, f)
	id, err := h.AddKey(f, key, Slot{[]byte("two"), quick})
	if err != nil {
		t.Fatal(err)
	}
	opensWith(t, f, key, "one", "two", "three")
	mustCryptsetup(t, "two", "open", "--test-passphrase", "--key-slot", "1", f.Name())
	if err := h.ChangeKey(f, id, key, Slot{[]byte("four"), KDF{Type: Argon2id, Time: 4, MemoryKiB: 32, Threads: 1}}); err != nil {
		t.Fatal(err)
	}
	mustCryptsetup(t, "four", "open", "--test-passphrase", f.Name())
	if err := h.RemoveKey(f, 0); err != nil {
		t.Fatal(err)
	}
	if out, err := cryptsetup(t, "one", "open", "--test-passphrase", f.Name()); err == nil {
		t.Errorf("the removed passphrase opens: %s", out)
	}
	mustCryptsetup(t, "three", "open", "--test-passphrase", f.Name())
	opensWith(t, f, key, "three")

	// A token that refers to a slot goes on doing so, until the slot goes.
	tokenFile := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte(`{"type":"example","keyslots":["1"],"note":{"a":[1,2.5]}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	mustCryptsetup(t, "", "token", "import", "--json-file", tokenFile, f.Name())
	h = reopen(t, f)
	if h.Info().Tokens != 1 {
		t.Fatalf("there are %d tokens", h.Info().Tokens)
	}
	if err := h.RemoveKey(f, 1); err != nil {
		t.Fatal(err)
	}
	if out := mustCryptsetup(t, "", "token", "export", "--token-id", "0", f.Name()); !strings.Contains(out, `"note":{`) || strings.Contains(out, `"1"`) {
		t.Errorf("the token is %s", out)
	}
}
