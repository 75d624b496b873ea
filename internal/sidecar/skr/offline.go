// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"cofferdam.dev/internal/strictjson"
)

// infoSuffix is what follows a key's name in the name of the file that describes it.
const infoSuffix = "-info.json"

// maxKeyFile bounds the files of a public key, in bytes.
const maxKeyFile = 64 << 10

// errNoKey says that the directory has no such key.
var errNoKey = errors.New("the key directory has no such key")

// WrapOffline wraps a secret under a public RSA key, and returns the annotation that UnWrapKey takes. The file KEY-info.json
// in the directory names the key's PEM file, absolute or from where it lies itself, the vault that has the private half, and the attestation service. All files
// lie below the directory.
func WrapOffline(dir, key string, secret []byte) ([]byte, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("wrapping: %w", err)
	}
	defer func() { _ = root.Close() }() // it was only read from
	b, err := wrapWith(root, dir, key, secret)
	if err != nil {
		return nil, fmt.Errorf("wrapping with key %q: %w", key, err)
	}
	return b, nil
}

func wrapWith(root *os.Root, dir, key string, secret []byte) ([]byte, error) {
	text, err := readKeyFile(root, key+infoSuffix)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoKey, err)
	}
	info, err := strictjson.Parse(text)
	if err != nil {
		return nil, err
	}
	a := annotation{KeyID: filepath.Base(key), Type: wrapType}
	var public string
	for name, to := range map[string]*string{"public_key_path": &public, "kms_endpoint": &a.Vault, "attester_endpoint": &a.Attester} {
		if *to, err = info.Text(name); err != nil {
			return nil, err
		}
	}
	if filepath.IsAbs(public) {
		public, err = filepath.Rel(dir, public)
	} else {
		public = filepath.Join(filepath.Dir(key), public)
	}
	if err != nil {
		return nil, err
	}
	p, err := readPublic(root, public)
	if err != nil {
		return nil, err
	}
	if a.Wrapped, err = rsa.EncryptOAEP(sha256.New(), rand.Reader, p, secret, nil); err != nil {
		return nil, err
	}
	return json.Marshal(a)
}

func readPublic(root *os.Root, name string) (*rsa.PublicKey, error) {
	text, err := readKeyFile(root, name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("%s holds no public key in PEM", name)
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an RSA key", name, key)
	}
	return p, nil
}

func readKeyFile(root *os.Root, name string) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(b) > maxKeyFile {
		err = fmt.Errorf("%s has more than %d bytes", name, maxKeyFile)
	}
	return b, err
}
