// SPDX-License-Identifier: Apache-2.0

package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/internal/wholefile"
)

// What lies in the directory besides the entries. Names of collateral have no dots, so nothing can clash.
const (
	tempDir       = ".tmp"
	lockDir       = ".lock"
	entrySuffix   = ".json"
	refusalSuffix = ".refused.json"
)

// maxFile bounds a file: an item in base64 with some words around it.
const maxFile = (collateral.MaxBodySize+collateral.MaxIssuerChainSize)*4/3 + 4<<10

// entrySchema names the form of entries.
const entrySchema = "cofferdam.dev/collateral-entry/v1"

// entry is an item on disk.
type entry struct {
	Schema  string    `json:"schema"`
	Name    string    `json:"name"`
	Fetched time.Time `json:"fetched"`
	// Digest is the SHA-256 of name, body and issuer chain. It finds damage, not malice.
	Digest      string `json:"digest"`
	Body        []byte `json:"body"`
	IssuerChain []byte `json:"issuerChain,omitempty"`

	window collateral.Window
}

func newEntry(r collateral.Request, it collateral.Item, now time.Time) *entry {
	e := &entry{Schema: entrySchema, Name: r.Name(), Fetched: now.UTC(), Body: it.Body, IssuerChain: it.IssuerChain}
	e.Digest = e.digest()
	return e
}

func (e *entry) item() collateral.Item {
	return collateral.Item{Body: e.Body, IssuerChain: e.IssuerChain}
}

func (e *entry) digest() string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%q %d %d ", e.Name, len(e.Body), len(e.IssuerChain)) // a hash never fails
	_, _ = h.Write(e.Body)
	_, _ = h.Write(e.IssuerChain)
	return hex.EncodeToString(h.Sum(nil))
}

func entryPath(name string) string { return filepath.FromSlash(name) + entrySuffix }

// load reads the entry of a request. Its error wraps os.ErrNotExist when there is none, and is another one when it is
// damaged.
func (c *Cache) load(r collateral.Request) (*entry, error) {
	var e entry
	if err := c.read(entryPath(r.Name()), &e); err != nil {
		return nil, err
	}
	if e.Schema != entrySchema || e.Name != r.Name() || e.Digest != e.digest() {
		return nil, fmt.Errorf("the entry of %s is damaged", r.Name())
	}
	var err error
	e.window, err = collateral.Inspect(r, e.item())
	if err != nil {
		return nil, err
	}
	return &e, nil
}

// read decodes a JSON file strictly.
func (c *Cache) read(path string, into any) error {
	f, err := os.OpenFile(filepath.Join(c.opts.Dir, path), os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was read from only
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxFile {
		return fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("decoding %s: %w", path, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("decoding %s: something follows the JSON value", path)
	}
	return nil
}

// store writes an entry, forgets that it was refused, and makes room if there is too little.
func (c *Cache) store(e *entry) error {
	if err := c.write(entryPath(e.Name), e); err != nil {
		return fmt.Errorf("storing %s: %w", e.Name, err)
	}
	c.drop(filepath.FromSlash(e.Name) + refusalSuffix)
	return c.evict()
}

// write puts a file in place whole or not at all: written elsewhere, synced, renamed.
func (c *Cache) write(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	final := filepath.Join(c.opts.Dir, path)
	f, err := os.CreateTemp(filepath.Join(c.opts.Dir, tempDir), "") // has mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(b, '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = c.place(f.Name(), final)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	err = wholefile.SyncDir(filepath.Dir(final))
	if errors.Is(err, os.ErrNotExist) {
		return nil // evicted already
	}
	return err
}

// place renames a file into its directory, which is made first. An eviction may remove the directory in between, as it
// is empty; it does not do so time and again.
func (c *Cache) place(from, to string) error {
	var err error
	for range 10 {
		if err = os.MkdirAll(filepath.Dir(to), 0o700); err == nil {
			err = os.Rename(from, to)
		}
		if !errors.Is(err, os.ErrNotExist) {
			break
		}
	}
	return err
}

// drop removes a file. One that can not be removed is not returned either: it is damaged, too old, or says nothing new.
func (c *Cache) drop(path string) { _ = os.Remove(filepath.Join(c.opts.Dir, path)) }
