// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Limits on archives.
const (
	maxArchiveEntries = 100_000
	maxNameLength     = 4096
)

// tarStore is an archive file of which the positions of the regular files are known. Nothing is unpacked: names are
// keys of a map and never paths of this machine.
type tarStore struct {
	path  string
	files map[string]extent
	links map[string]string // symbolic links, as old versions of Docker write for repeated layers
}

type extent struct {
	offset, size int64
}

// scanArchive finds the files of an archive.
func scanArchive(file string) (*tarStore, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s is not a regular file", ErrMalformed, file)
	}
	s := &tarStore{path: file, files: map[string]extent{}, links: map[string]string{}}
	err = s.scan(f, info.Size())
	if err != nil {
		return nil, fmt.Errorf("reading archive %s: %w", file, err)
	}
	return s, nil
}

func (s *tarStore) scan(f *os.File, size int64) error {
	magic := make([]byte, len(zstdMagic))
	_, err := f.ReadAt(magic, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if bytes.HasPrefix(magic, gzipMagic) || bytes.HasPrefix(magic, zstdMagic) {
		return fmt.Errorf("%w: the archive is compressed; decompress it first", ErrMalformed)
	}
	r := tar.NewReader(f) // reads no further than it must, so the file's offset is where the content begins
	for n := 0; ; n++ {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: entry %d: %w", ErrMalformed, n, err)
		}
		if n >= maxArchiveEntries {
			return fmt.Errorf("%w: it has more than %d entries", ErrMalformed, maxArchiveEntries)
		}
		offset, err := f.Seek(0, io.SeekCurrent)
		if err != nil {
			return err
		}
		err = s.enter(h, offset, size)
		if err != nil {
			return err
		}
	}
}

// enter notes one entry.
func (s *tarStore) enter(h *tar.Header, offset, size int64) error {
	if len(h.Name) > maxNameLength || len(h.Linkname) > maxNameLength {
		return fmt.Errorf("%w: an entry's name is longer than %d bytes", ErrMalformed, maxNameLength)
	}
	name := path.Clean(h.Name)
	if !fs.ValidPath(name) {
		return fmt.Errorf("%w: entry %q leads out of the archive", ErrMalformed, h.Name)
	}
	if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeSymlink {
		return nil
	}
	_, isFile := s.files[name]
	_, isLink := s.links[name]
	if isFile || isLink {
		return fmt.Errorf("%w: entry %q appears twice", ErrMalformed, name)
	}
	if h.Typeflag == tar.TypeSymlink {
		s.links[name] = path.Join(path.Dir(name), h.Linkname) // #nosec G305 -- a key of a map, never a path of this machine
		return nil
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return fmt.Errorf("%w: entry %q is sparse", ErrMalformed, name)
		}
	}
	if h.Size < 0 || h.Size > size-offset {
		return fmt.Errorf("%w: entry %q: expected at most %d bytes, got %d", ErrMalformed, name, size-offset, h.Size)
	}
	s.files[name] = extent{offset, h.Size}
	return nil
}

// open follows at most one symbolic link, and only to a regular file of the archive.
func (s *tarStore) open(name string) (io.ReadCloser, int64, error) {
	name = path.Clean(name)
	if target, ok := s.links[name]; ok {
		name = target
	}
	e, ok := s.files[name]
	if !ok {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	f, err := os.Open(s.path)
	if err != nil {
		return nil, 0, err
	}
	return section{io.NewSectionReader(f, e.offset, e.size), f}, e.size, nil
}

// section is a part of a file that owns it.
type section struct {
	*io.SectionReader
	f *os.File
}

func (s section) Close() error { return s.f.Close() }
