// SPDX-License-Identifier: Apache-2.0

package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// minFileToken is the least length of a token in a file, that of 128 bits in base32.
const minFileToken = 26

// FileToken knows whoever has the token that lies in a file. It is for development and for tools on the same machine.
type FileToken struct {
	name  string
	hash  [sha256.Size]byte
	roles []Role
}

// OpenFileToken reads the token, and makes the file with a random one when it is not there. The file must be readable by
// its owner alone.
func OpenFileToken(path string, roles ...Role) (*FileToken, error) {
	t, err := openFileToken(path, roles)
	if err != nil {
		return nil, fmt.Errorf("token file: %w", err)
	}
	return t, nil
}

func openFileToken(path string, roles []Role) (*FileToken, error) {
	if len(roles) == 0 {
		return nil, errors.New("it gives no role")
	}
	if err := makeToken(path); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %v; want 0600", path, info.Mode().Perm())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	token := strings.TrimSpace(string(b))
	if len(token) < minFileToken || len(token) > maxToken {
		return nil, fmt.Errorf("%s holds %d characters, not %d to %d", path, len(token), minFileToken, maxToken)
	}
	return &FileToken{filepath.Base(path), sha256.Sum256([]byte(token)), roles}, nil
}

// makeToken makes the file as a whole, unless it is there.
func makeToken(path string) error {
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".token-*") // with mode 0600
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, rand.Text())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	_ = os.Remove(f.Name()) // it is there under its real name, or the first error says what happened
	if errors.Is(err, os.ErrExist) {
		return nil // another process made it
	}
	return err
}

// Authenticate implements Authenticator.
func (t *FileToken) Authenticate(r *http.Request) (*Identity, error) {
	token, err := Bearer(r)
	if err != nil {
		return nil, err
	}
	if strings.Count(token, ".") == 2 {
		return nil, ErrNoCredentials // a JWT is another authenticator's
	}
	hash := sha256.Sum256([]byte(token))
	if subtle.ConstantTimeCompare(hash[:], t.hash[:]) != 1 {
		return nil, fmt.Errorf("%w: the token is not the operator's", ErrCredentials)
	}
	return &Identity{Method: "file", Issuer: t.name, Subject: "operator", Roles: t.roles}, nil
}
