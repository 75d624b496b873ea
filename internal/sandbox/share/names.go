// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Features (FUSE_* flags of INIT): asynchronous reads, large writes, data that are read again when a file has changed, look-ups
// side by side, messages of several pages.
const features = 1<<0 | 1<<5 | 1<<12 | 1<<18 | 1<<22

// init negotiates version 7.31.
func (s *server) init(r *request) ([]byte, error) {
	major, minor := r.body.u32(), r.body.u32()
	r.body.skip(4)
	offered := r.body.u32()
	if len(r.body.b) == 48 { // since version 7.36
		r.body.skip(48)
	}
	if !r.body.end() || major != 7 || minor < 31 || s.begun {
		r.body.wrong = true
		return nil, unix.EPROTO
	}
	s.begun = true
	var b builder
	b.u32(7)
	b.u32(31)
	b.u32(maxData) // read-ahead
	b.u32(offered & features)
	b.u32(0) // the kernel's own limits of what is under way
	b.u32(maxData)
	b.u32(1)             // nanosecond
	b.u32(maxData >> 12) // pages
	return append(b, make([]byte, 32)...), nil
}

// known answers with an entry of a directory, which the guest knows once more then.
func (s *server) known(parent *node, name string, st *unix.Stat_t) (builder, error) {
	x, err := s.nodes.know(parent, name)
	if err != nil {
		return nil, err
	}
	var b builder
	b.entry(x.id, st)
	return b, nil
}

func (s *server) lookup(r *request) ([]byte, error) {
	name := r.body.name()
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	dir, parent, err := s.directory(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(dir) }()
	return s.entry(dir, parent, name)
}

// entry looks a name up.
func (s *server) entry(dir int, parent *node, name string) (builder, error) {
	var st unix.Stat_t
	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	return s.known(parent, name, &st)
}

func (s *server) forget(r *request) ([]byte, error) {
	count := r.body.u64()
	if r.body.end() {
		s.nodes.forget(r.node, count)
	}
	return nil, nil
}

func (s *server) batchForget(r *request) ([]byte, error) {
	n := r.body.u32()
	r.body.skip(4)
	for range n {
		id, count := r.body.u64(), r.body.u64()
		if r.body.wrong {
			return nil, nil
		}
		s.nodes.forget(id, count)
	}
	r.body.end()
	return nil, nil
}

// interrupt is about a request that is answered by the time it is read.
func (*server) interrupt(r *request) ([]byte, error) {
	r.body.skip(8)
	r.body.end()
	return nil, nil
}

func (s *server) getattr(r *request) ([]byte, error) {
	flags := r.body.u32()
	r.body.skip(4)
	handle := r.body.u64()
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	var b builder
	if h := s.handles[handle]; flags&1 != 0 && h != nil && h.node == r.node { // FUSE_GETATTR_FH: a name may be gone
		var st unix.Stat_t
		err := unix.Fstat(int(h.file.Fd()), &st)
		b.attributes(r.node, &st)
		return b, err
	}
	fd, _, st, err := s.locate(r.node, 0)
	if err != nil {
		return nil, err
	}
	b.attributes(r.node, st)
	return b, unix.Close(fd)
}

func (s *server) readlink(r *request) ([]byte, error) {
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	fd, _, st, err := s.locate(r.node, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	if st.Mode&unix.S_IFMT != unix.S_IFLNK {
		return nil, unix.EINVAL
	}
	b := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", b)
	if err != nil {
		return nil, err
	}
	return b[:n], nil
}

// refuse makes no link: others on the host could follow it.
func (*server) refuse(*request) ([]byte, error) { return nil, unix.EPERM }

// mkdir makes a directory with the mode that is usual for the owner: the guest's wish counts as little as its users.
func (s *server) mkdir(r *request) ([]byte, error) {
	r.body.skip(8) // mode and mask
	name := r.body.name()
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	dir, parent, err := s.directory(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(dir) }()
	err = unix.Mkdirat(dir, name, 0o777)
	if err != nil {
		return nil, err
	}
	return s.entry(dir, parent, name)
}

// mknod makes a file. Nothing else can be made.
func (s *server) mknod(r *request) ([]byte, error) {
	mode := r.body.u32()
	r.body.skip(12) // device, mask
	name := r.body.name()
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	if mode&unix.S_IFMT != unix.S_IFREG {
		return nil, unix.EPERM
	}
	dir, parent, err := s.directory(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(dir) }()
	fd, err := openAt(dir, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL, fileMode(mode))
	if err != nil {
		return nil, err
	}
	return s.entryAfter(unix.Close(fd), dir, parent, name)
}

func (s *server) entryAfter(err error, dir int, parent *node, name string) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return s.entry(dir, parent, name)
}

// fileMode is the mode of a new file: of the guest's wish, whether it is a program.
func fileMode(mode uint32) uint32 {
	if mode&0o100 != 0 {
		return 0o777
	}
	return 0o666
}

func (s *server) unlink(r *request) ([]byte, error) { return s.remove(r, 0) }
func (s *server) rmdir(r *request) ([]byte, error)  { return s.remove(r, unix.AT_REMOVEDIR) }

func (s *server) remove(r *request, flags int) ([]byte, error) {
	name := r.body.name()
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	dir, parent, err := s.directory(r)
	if err != nil {
		return nil, err
	}
	err = errors.Join(unix.Unlinkat(dir, name, flags), unix.Close(dir))
	if err == nil {
		s.nodes.remove(parent, name)
	}
	return nil, err
}

func (s *server) rename(r *request) ([]byte, error) {
	to := r.body.u64()
	return s.move(r, to, 0)
}

func (s *server) rename2(r *request) ([]byte, error) {
	to, flags := r.body.u64(), r.body.u32()
	r.body.skip(4)
	return s.move(r, to, flags)
}

func (s *server) move(r *request, to uint64, flags uint32) ([]byte, error) {
	from, as := r.body.name(), r.body.name()
	if !r.body.end() || flags&^unix.RENAME_NOREPLACE != 0 {
		return nil, unix.EINVAL
	}
	oldDir, parent, err := s.directory(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(oldDir) }()
	newDir, target, _, err := s.locate(to, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(newDir) }()
	err = unix.Renameat2(oldDir, from, newDir, as, uint(flags))
	if err == nil {
		s.nodes.move(parent, from, target, as)
	}
	return nil, err
}

func (s *server) statfs(r *request) ([]byte, error) {
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	var st unix.Statfs_t
	err := unix.Fstatfs(s.root, &st)
	if err != nil {
		return nil, err
	}
	var b builder
	for _, v := range []uint64{st.Blocks, st.Bfree, st.Bavail, st.Files, st.Ffree} {
		b.u64(v)
	}
	b.u32(uint32(st.Bsize)) // a block's size
	b.u32(maxName)
	b.u32(uint32(st.Frsize)) // the same
	return append(b, make([]byte, 28)...), nil
}

// Fields of SETATTR that are given (FATTR_*).
const (
	setMode     = 1 << 0
	setSize     = 1 << 3
	setAtime    = 1 << 4
	setMtime    = 1 << 5
	setHandle   = 1 << 6
	setAtimeNow = 1 << 7
	setMtimeNow = 1 << 8
)

// setattr changes size, times, and whether a file is a program. Owners and other bits of the mode are passed over.
func (s *server) setattr(r *request) ([]byte, error) {
	valid := r.body.u32()
	r.body.skip(4)
	handle, size := r.body.u64(), r.body.u64()
	r.body.skip(8)
	times := [2]unix.Timespec{{Sec: int64(r.body.u64())}, {Sec: int64(r.body.u64())}} // signed
	r.body.skip(8)
	times[0].Nsec, times[1].Nsec = int64(r.body.u32()), int64(r.body.u32())
	r.body.skip(4)
	mode := r.body.u32()
	r.body.skip(16)
	if !r.body.end() {
		return nil, unix.EINVAL
	}
	fd, _, st, err := s.locate(r.node, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = unix.Close(fd) }()
	if valid&setMode != 0 && st.Mode&unix.S_IFMT == unix.S_IFREG {
		err = unix.Chmod(fmt.Sprintf("/proc/self/fd/%d", fd), changed(st.Mode, mode))
	}
	if err == nil && valid&setSize != 0 {
		err = s.truncate(fd, st, handle, valid&setHandle != 0, size)
	}
	if err == nil && valid&(setAtime|setMtime|setAtimeNow|setMtimeNow) != 0 {
		err = setTimes(fd, valid, times)
	}
	if err == nil {
		err = unix.Fstat(fd, st)
	}
	var b builder
	b.attributes(r.node, st)
	return b, err
}

// changed is a file's mode with the guest's wish in it: a program is one for whoever may read it.
func changed(have, want uint32) uint32 {
	bits := have & 0o666
	if want&0o100 != 0 {
		bits |= bits & 0o444 >> 2
	}
	return bits
}

func (s *server) truncate(fd int, st *unix.Stat_t, handle uint64, has bool, size uint64) error {
	length, err := offset(size)
	if err != nil {
		return err
	}
	if h := s.handles[handle]; has && h != nil && h.entries == nil {
		return unix.Ftruncate(int(h.file.Fd()), length)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return unix.EINVAL
	}
	if privileged(st) {
		return unix.EACCES
	}
	w, err := reopen(fd, unix.O_WRONLY)
	if err != nil {
		return err
	}
	return errors.Join(unix.Ftruncate(w, length), unix.Close(w))
}

func setTimes(fd int, valid uint32, times [2]unix.Timespec) error {
	for i, bits := range [2][2]uint32{{setAtime, setAtimeNow}, {setMtime, setMtimeNow}} {
		switch {
		case valid&bits[1] != 0:
			times[i] = unix.Timespec{Nsec: unix.UTIME_NOW}
		case valid&bits[0] == 0:
			times[i] = unix.Timespec{Nsec: unix.UTIME_OMIT}
		case times[i].Nsec < 0 || times[i].Nsec >= int64(time.Second):
			return unix.EINVAL
		}
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", fd), times[:], 0)
}
