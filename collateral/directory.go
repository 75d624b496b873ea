// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"cofferdam.dev/internal/wholefile"
)

// Limits of an item, in bytes, whoever serves it.
const (
	// MaxBodySize bounds a body: Intel's longest TCB information and revocation lists have some ten kilobytes.
	MaxBodySize = 1 << 20
	// MaxIssuerChainSize bounds an issuer chain, which has two or three certificates.
	MaxIssuerChainSize = 32 << 10
)

// issuerChainSuffix follows an item's name in the name of the file that holds its issuer chain. Names have no dots.
const issuerChainSuffix = ".issuer-chain.pem"

// Directory has the items that lie as files below a directory: the body in a file with the Request's name, the issuer
// chain, if it has one, beside it in a file with ".issuer-chain.pem" appended. The files are read at each request. Only
// plain files are read, and no link leads out of the directory.
type Directory string

var _ Source = Directory("")

// Get reads the files of an item.
func (d Directory) Get(ctx context.Context, r Request) (Item, error) {
	if err := r.Validate(); err != nil {
		return Item{}, err
	}
	it, err := d.read(ctx, r.Name())
	if errors.Is(err, fs.ErrNotExist) {
		return Item{}, fmt.Errorf("%s does not exist: %w", filepath.Join(string(d), filepath.FromSlash(r.Name())), ErrUnavailable)
	}
	if err != nil {
		return Item{}, fmt.Errorf("reading %s: %w: %w", filepath.Join(string(d), filepath.FromSlash(r.Name())), ErrUnavailable, err)
	}
	return it, nil
}

func (d Directory) read(ctx context.Context, name string) (Item, error) {
	if err := ctx.Err(); err != nil {
		return Item{}, err
	}
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return Item{}, err
	}
	defer func() { _ = root.Close() }() // it was read from only
	var it Item
	if it.Body, err = readPlain(root, name, MaxBodySize); err != nil {
		return Item{}, err
	}
	it.IssuerChain, err = readPlain(root, name+issuerChainSuffix, MaxIssuerChainSize)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Item{}, err
	}
	return it, nil
}

// readPlain reads a file of bounded size. It is opened without waiting, so that a named pipe holds nobody up.
func readPlain(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.OpenFile(filepath.FromSlash(name), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was read from only
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s has mode %s, not that of a plain file", name, info.Mode())
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("%s has more than %d bytes", name, limit)
	}
	return b, nil
}

// Put writes an item's files, each whole or not at all, the body last. An item that has not the form of what it is put
// down as is refused.
func (d Directory) Put(r Request, it Item) error {
	if _, err := Inspect(r, it); err != nil {
		return err
	}
	path := filepath.Join(string(d), filepath.FromSlash(r.Name()))
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil && it.IssuerChain != nil {
		err = wholefile.Replace(path+issuerChainSuffix, it.IssuerChain, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return wholefile.Replace(path, it.Body, 0o600)
}

// Requests returns what the directory has, by name: a request for each plain file whose place is a Request's name. Other
// files are passed over.
func (d Directory) Requests() ([]Request, error) {
	var found []Request
	err := filepath.WalkDir(string(d), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(string(d), path)
		if err != nil {
			return err
		}
		if r, err := ParseName(filepath.ToSlash(rel)); err == nil {
			found = append(found, r)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("listing collateral: %w", err)
	}
	return found, nil
}
