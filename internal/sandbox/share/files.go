// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Bounds of what the guest has open.
const (
	maxHandles = 1024
	maxEntries = 1 << 17 // of a directory
	maxListed  = 1 << 18 // of all open directories together
)

// handle is a file or directory that the guest has open.
type handle struct {
	node    uint64
	file    *os.File
	entries []fs.DirEntry // of a directory; nil for a file
}

// handles are what the guest has open, by number.
type handles map[uint64]*handle

// add keeps an open file and returns its number.
func (h handles) add(x *handle) (uint64, error) {
	if len(h) >= maxHandles {
		_ = x.file.Close()
		return 0, unix.ENFILE
	}
	id := uint64(1)
	for h[id] != nil {
		id++
	}
	h[id] = x
	return id, nil
}

// get returns what the request has open.
func (h handles) get(id uint64, directory bool) (*handle, error) {
	x := h[id]
	if x == nil || (x.entries != nil) != directory {
		return nil, unix.EBADF
	}
	return x, nil
}

// held opens a file that the guest has open, whose name may be gone by now.
func (h handles) held(node uint64) (int, error) {
	for _, x := range h {
		if x.node == node && x.entries == nil {
			return reopen(int(x.file.Fd()), unix.O_PATH)
		}
	}
	return -1, unix.ESTALE
}

// access is what of the guest's flags counts: reading, writing or both. Offsets come with each request, and truncation is a
// request of its own.
func (s *server) access(flags uint32) (int, error) {
	a := int(flags & unix.O_ACCMODE)
	if a == unix.O_ACCMODE {
		return 0, unix.EINVAL
	}
	if a != unix.O_RDONLY && s.readOnly {
		return 0, unix.EROFS
	}
	return a, nil
}

func (s *server) open(r *request) ([]byte, error) {
	flags := r.body.u32()
	r.body.skip(4)
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	access, err := s.access(flags)
	if err != nil {
		return nil, err
	}
	fd, x, st, err := s.locate(r.node, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	return s.opened(fd, x, st, access)
}

// opened opens what is a file and nothing else: a device or a pipe could do anything, and wait for it.
func (s *server) opened(fd int, x *node, st *unix.Stat_t, access int) ([]byte, error) {
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EACCES
	}
	if access != unix.O_RDONLY && privileged(st) {
		return nil, unix.EACCES
	}
	f, err := reopen(fd, access)
	if err != nil {
		return nil, err
	}
	id, err := s.handles.add(&handle{node: x.id, file: os.NewFile(uintptr(f), x.name)})
	if err != nil {
		return nil, err
	}
	return openAnswer(id), nil
}

// privileged reports whether a file is a program that runs with the rights of its owner or group: whoever writes to it runs what it
// likes with them. The kernel takes such rights from a file that is written to, but not when root writes.
func privileged(st *unix.Stat_t) bool { return st.Mode&(unix.S_ISUID|unix.S_ISGID) != 0 }

// openAnswer is a struct fuse_open_out.
func openAnswer(id uint64) []byte {
	var b builder
	b.u64(id)
	b.u64(0)
	return b
}

// create opens a file that it makes if it does not exist.
func (s *server) create(r *request) ([]byte, error) {
	flags, mode := r.body.u32(), r.body.u32()
	r.body.skip(8)
	name := r.body.name()
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	access, err := s.access(flags)
	if err != nil {
		return nil, err
	}
	dir, parent, err := s.directory(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(dir) }()
	made, err := openAt(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, fileMode(mode))
	if err == nil {
		err = unix.Close(made)
	} else if errors.Is(err, unix.EEXIST) && flags&unix.O_EXCL == 0 {
		err = nil
	}
	if err != nil {
		return nil, err
	}
	fd, err := openAt(dir, name, unix.O_PATH, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err != nil {
		return nil, err
	}
	entry, err := s.known(parent, name, &st)
	if err != nil {
		return nil, err
	}
	x := parent.children[name]
	var out []byte
	if flags&unix.O_TRUNC != 0 && st.Size > 0 {
		err = s.truncate(fd, &st, 0, false, 0)
	}
	if err == nil {
		out, err = s.opened(fd, x, &st, access)
	}
	if err != nil {
		s.nodes.forget(x.id, 1) // the guest does not learn the name
		return nil, err
	}
	return append(entry, out...), nil
}

func (s *server) read(r *request) ([]byte, error) {
	id, at, size := r.body.u64(), r.body.u64(), r.body.u32()
	r.body.skip(20)
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	h, err := s.handles.get(id, false)
	if err != nil {
		return nil, err
	}
	from, err := offset(at)
	if err != nil {
		return nil, err
	}
	b := make([]byte, min(size, maxData))
	n, err := h.file.ReadAt(b, from)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b[:n], nil
}

func (s *server) write(r *request) ([]byte, error) {
	id, at, size := r.body.u64(), r.body.u64(), r.body.u32()
	r.body.skip(20)
	if size > maxData {
		r.body.wrong = true
		return nil, unix.EINVAL
	}
	data := r.body.take(int(size))
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	h, err := s.handles.get(id, false)
	if err != nil {
		return nil, err
	}
	to, err := offset(at)
	if err != nil {
		return nil, err
	}
	n, err := h.file.WriteAt(data, to)
	if err != nil {
		return nil, err
	}
	var b builder
	b.u32(uint32(n)) // at most maxData
	b.u32(0)
	return b, nil
}

func (s *server) fsync(r *request) ([]byte, error) {
	id := r.body.u64()
	r.body.skip(8)
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	h, err := s.handles.get(id, false)
	if err != nil {
		return nil, err
	}
	return nil, h.file.Sync()
}

// release closes a file or directory.
func (s *server) release(r *request) ([]byte, error) {
	id := r.body.u64()
	r.body.skip(16)
	h := s.handles[id]
	if !r.body.end() || h == nil {
		return nil, unix.EBADF
	}
	delete(s.handles, id)
	s.listed -= len(h.entries)
	return nil, h.file.Close()
}

func (s *server) opendir(r *request) ([]byte, error) {
	r.body.skip(8)
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	fd, x, err := s.directory(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	f, err := reopen(fd, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	id, err := s.handles.add(&handle{node: x.id, file: os.NewFile(uintptr(f), x.name), entries: []fs.DirEntry{}})
	if err != nil {
		return nil, err
	}
	return openAnswer(id), nil
}

// readdir lists a directory as it was when the guest began to read it.
func (s *server) readdir(r *request) ([]byte, error) {
	id, from, size := r.body.u64(), r.body.u64(), r.body.u32()
	r.body.skip(20)
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	h, err := s.handles.get(id, true)
	if err != nil {
		return nil, err
	}
	if from == 0 {
		err = s.list(h)
		if err != nil {
			return nil, err
		}
	}
	var b builder
	for i := from; i < uint64(len(h.entries)); i++ { // small
		e := h.entries[i]
		if !b.dirent(i+1, e, int(min(size, maxData))) {
			break
		}
	}
	return b, nil
}

// list reads a directory anew.
func (s *server) list(h *handle) error {
	s.listed -= len(h.entries)
	h.entries = []fs.DirEntry{}
	err := h.list(maxListed - s.listed)
	if err != nil {
		h.entries = []fs.DirEntry{}
	}
	s.listed += len(h.entries)
	return err
}

func (h *handle) list(left int) error {
	_, err := h.file.Seek(0, io.SeekStart)
	if err != nil {
		return err
	}
	for {
		list, err := h.file.ReadDir(256)
		h.entries = append(h.entries, list...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(h.entries) > maxEntries {
			return unix.EOVERFLOW
		}
		if len(h.entries) > left {
			return unix.ENFILE
		}
	}
	slices.SortFunc(h.entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return nil
}

// dirent adds a struct fuse_dirent, if it fits into limit bytes.
func (b *builder) dirent(next uint64, e fs.DirEntry, limit int) bool {
	const header, unknownInode = 24, 0xffffffff
	name := e.Name()
	padding := -len(name) & 7
	if len(*b)+header+len(name)+padding > limit {
		return false
	}
	kind := uint32(unix.DT_UNKNOWN)
	switch {
	case e.Type().IsRegular():
		kind = unix.DT_REG
	case e.IsDir():
		kind = unix.DT_DIR
	case e.Type()&fs.ModeSymlink != 0:
		kind = unix.DT_LNK
	}
	b.u64(unknownInode)
	b.u64(next)
	b.u32(uint32(len(name))) // a name is short
	b.u32(kind)
	*b = append(*b, name...)
	*b = append(*b, make([]byte, padding)...)
	return true
}
