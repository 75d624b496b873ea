// SPDX-License-Identifier: Apache-2.0

package tour

import (
	"bytes"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"cofferdam.dev/internal/testcap"
)

// TestLetterOpensWithOpenSSL has an independent program open what the data owner encrypts, and refuse what was changed.
func TestLetterOpensWithOpenSSL(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.OpenSSL)
	text, key := []byte("the letter"), bytes.Repeat([]byte{7}, 32)
	sealed, err := sealLetter(text, key, "k1")
	if err != nil {
		t.Fatal(err)
	}
	open := func(b, key []byte) ([]byte, error) {
		file := filepath.Join(t.TempDir(), "letter.cms")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.CommandContext(t.Context(), "openssl", "cms", "-decrypt", "-binary", "-inform", "DER", "-in", file,
			"-secretkey", hex.EncodeToString(key), "-secretkeyid", hex.EncodeToString([]byte("k1"))).Output()
	}
	got, err := open(sealed, key)
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("OpenSSL opens %q, %v", got, err)
	}
	if _, err := open(sealed, bytes.Repeat([]byte{8}, 32)); err == nil {
		t.Error("another key opened it")
	}
	changed := bytes.Clone(sealed)
	changed[len(changed)-20] ^= 1 // in the text
	if _, err := open(changed, key); err == nil {
		t.Error("a changed letter was opened")
	}
	if _, err := sealLetter(text, key[:5], "k1"); err == nil {
		t.Error("a key of 5 bytes was taken")
	}
}
