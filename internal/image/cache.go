// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/sys/unix"
)

// staleAfter is how old a temporary file of a pull must be to be the remains of a process that died.
const staleAfter = 24 * time.Hour

// pullCache is an OCI layout that pulled images are kept in. Blobs appear by renaming, whole and checked; the index is
// replaced under a lock. So any number of processes may use it, and one that dies leaves nothing but a temporary file.
type pullCache struct {
	dir   string
	store dirStore
}

func openPullCache(dir string) (*pullCache, error) {
	c := &pullCache{dir: dir, store: dirStore(dir)}
	for _, d := range []string{"blobs/sha256", "tmp"} {
		err := os.MkdirAll(filepath.Join(dir, d), 0o700)
		if err != nil {
			return nil, fmt.Errorf("preparing the pull cache: %w", err)
		}
	}
	layout := filepath.Join(dir, "oci-layout")
	_, err := os.Stat(layout)
	if errors.Is(err, fs.ErrNotExist) {
		err = c.replace(layout, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	}
	if err != nil {
		return nil, fmt.Errorf("preparing the pull cache: %w", err)
	}
	c.removeStale()
	return c, nil
}

// removeStale removes temporary files that nobody writes any more. Failing to is no reason not to go on.
func (c *pullCache) removeStale() {
	entries, err := os.ReadDir(filepath.Join(c.dir, "tmp"))
	if err != nil {
		return
	}
	for _, e := range entries {
		info, err := e.Info()
		if err == nil && time.Since(info.ModTime()) > staleAfter {
			_ = os.Remove(filepath.Join(c.dir, "tmp", e.Name())) // tried again next time
		}
	}
}

func (c *pullCache) blobPath(h v1.Hash) string {
	return filepath.Join(c.dir, filepath.FromSlash(blobName(h)))
}

// has reports whether a blob is there. Its content is checked whenever it is read.
func (c *pullCache) has(d v1.Descriptor) bool {
	info, err := os.Stat(c.blobPath(d.Digest))
	return err == nil && info.Mode().IsRegular() && info.Size() == d.Size
}

// complete reports whether all layers of an image are there.
func (c *pullCache) complete(img *Image) bool {
	return !slices.ContainsFunc(img.layers, func(l *Layer) bool {
		return !c.has(v1.Descriptor{Digest: l.digest, Size: l.size})
	})
}

// put stores a blob if its content matches the descriptor.
func (c *pullCache) put(d v1.Descriptor, r io.Reader) error {
	return c.write(c.blobPath(d.Digest), verified(io.NopCloser(r), d.Digest, d.Size))
}

func (c *pullCache) replace(path string, b []byte) error { return c.write(path, bytes.NewReader(b)) }

// write puts a file in place when its content was read to the end. It is written in the directory that removeStale
// looks after, since a blob may be large and its writer may be killed.
func (c *pullCache) write(path string, r io.Reader) error {
	f, err := os.CreateTemp(filepath.Join(c.dir, "tmp"), filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // gone already when all went well
	_, err = io.Copy(f, r)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func (c *pullCache) index() (v1.IndexManifest, error) {
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	b, err := readSmall(c.store, indexFile, 16*maxManifest)
	if errors.Is(err, fs.ErrNotExist) {
		return index, nil
	}
	if err != nil {
		return index, fmt.Errorf("reading the pull cache: %w", err)
	}
	err = unmarshal(b, &index)
	if err != nil {
		return index, fmt.Errorf("reading the pull cache: %s: %w", indexFile, err)
	}
	return index, nil
}

// find looks up what a reference meant when it was pulled last.
func (c *pullCache) find(ref name.Reference) (v1.Descriptor, bool, error) {
	index, err := c.index()
	if err != nil {
		return v1.Descriptor{}, false, err
	}
	for _, d := range index.Manifests {
		if d.Annotations[annotationRef] == ref.Name() {
			return d, true, nil
		}
	}
	return v1.Descriptor{}, false, nil
}

// enter notes what a reference means now.
func (c *pullCache) enter(ref name.Reference, d v1.Descriptor) error {
	lock, err := os.OpenFile(filepath.Join(c.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("locking the pull cache: %w", err)
	}
	defer func() { _ = lock.Close() }() // unlocks
	err = unix.Flock(int(lock.Fd()), unix.LOCK_EX)
	if err != nil {
		return fmt.Errorf("locking the pull cache: %w", err)
	}
	index, err := c.index()
	if err != nil {
		return err
	}
	index.Manifests = slices.DeleteFunc(index.Manifests, func(o v1.Descriptor) bool {
		return o.Annotations[annotationRef] == ref.Name()
	})
	d.Annotations = map[string]string{annotationRef: ref.Name()}
	index.Manifests = append(index.Manifests, d)
	slices.SortFunc(index.Manifests, func(a, b v1.Descriptor) int {
		return strings.Compare(a.Annotations[annotationRef], b.Annotations[annotationRef])
	})
	b, err := json.Marshal(index)
	if err != nil {
		return fmt.Errorf("writing the pull cache: %w", err)
	}
	err = c.replace(filepath.Join(c.dir, indexFile), b)
	if err != nil {
		return fmt.Errorf("writing the pull cache: %w", err)
	}
	return nil
}
