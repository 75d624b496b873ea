// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"fmt"
	"io"
	"os"

	"cofferdam.dev/internal/seal"
)

// MaxPEM bounds a certificate file in bytes.
const MaxPEM = 64 << 10

// MaxSecretFile bounds a file with a passphrase or a share in bytes.
const MaxSecretFile = 4 << 10

// ReadLimited reads a file of at most limit bytes, or stdin where the name is "-".
func ReadLimited(name string, stdin io.Reader, limit int64) ([]byte, error) {
	r := stdin
	if name != "-" || stdin == nil {
		f, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = f.Close() }() // opened for reading only
		r = f
	}
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return data, nil
}

// ReadPrivate reads a file that nobody else may read.
func ReadPrivate(what, name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading %s: %s has mode %v; want 0600", what, name, info.Mode().Perm())
	}
	b, err := ReadLimited(name, nil, limit)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", what, err)
	}
	return b, nil
}

// ReadSecretFile reads a file that nobody else may read, without the end of its line.
func ReadSecretFile(what, name string) (*seal.Secret, error) {
	b, err := ReadPrivate(what, name, MaxSecretFile)
	if err != nil {
		return nil, err
	}
	return seal.NewSecret(bytes.TrimRight(b, "\r\n")), nil
}
