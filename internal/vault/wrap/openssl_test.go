// SPDX-License-Identifier: Apache-2.0

package wrap

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"cofferdam.dev/internal/testcap"
)

// openssl runs the program with input, in a directory of its own.
func openssl(t *testing.T, dir string, input []byte, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "openssl", args...)
	cmd.Dir, cmd.Stdin = dir, bytes.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("openssl %s: %v\n%s", args, err, &errs)
	}
	return out.Bytes()
}

// TestOpenSSL opens with OpenSSL what we wrap in each format around RSA, and has us open what OpenSSL wraps.
func TestOpenSSL(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.OpenSSL)
	dir := t.TempDir()
	key := newRSA(t, 2048)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), private, 0o600); err != nil {
		t.Fatal(err)
	}
	for format, hash := range map[Enc]string{CKMRSAAESKeyWrap: "sha1", RSAAESKeyWrap256: "sha256", RSAAESKeyWrap384: "sha384"} {
		oaep := []string{"-inkey", "key.pem", "-pkeyopt", "rsa_padding_mode:oaep", "-pkeyopt", "rsa_oaep_md:" + hash, "-pkeyopt", "rsa_mgf1_md:" + hash}
		aes := func(direction string, kek []byte) []string {
			return []string{"enc", direction, "-id-aes256-wrap-pad", "-K", hex.EncodeToString(kek), "-iv", "A65959A6"}
		}
		for _, payload := range [][]byte{[]byte("7 bytes"), []byte("8 bytes!"), []byte("nine bytes"), der} {
			sealed, err := SealRSA(format, &key.PublicKey, payload)
			if err != nil {
				t.Fatal(err)
			}
			kek := openssl(t, dir, sealed[:key.Size()], slices.Concat([]string{"pkeyutl", "-decrypt"}, oaep)...)
			if got := openssl(t, dir, sealed[key.Size():], aes("-d", kek)...); !bytes.Equal(got, payload) {
				t.Errorf("%s: OpenSSL opens %x, not %x", format, got, payload)
			}
			theirs := slices.Concat(
				openssl(t, dir, kek, slices.Concat([]string{"pkeyutl", "-encrypt"}, oaep)...), openssl(t, dir, payload, aes("-e", kek)...))
			if got, err := OpenRSA(format, key, theirs); err != nil || !bytes.Equal(got, payload) {
				t.Errorf("%s: we open what OpenSSL wrapped as %x (%v), not %x", format, got, err, payload)
			}
		}
	}
}
