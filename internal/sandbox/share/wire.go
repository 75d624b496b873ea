// SPDX-License-Identifier: Apache-2.0

package share

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Sizes of the FUSE protocol (linux/fuse.h), in bytes.
const (
	requestHeader = 40 // struct fuse_in_header
	answerHeader  = 16 // struct fuse_out_header
	maxData       = 128 << 10
	maxMessage    = maxData + 4<<10
	maxName       = 255
)

// Operations (enum fuse_opcode). Others are answered with ENOSYS, which the guest's kernel remembers.
const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opReadlink    = 5
	opSymlink     = 6
	opMknod       = 8
	opMkdir       = 9
	opUnlink      = 10
	opRmdir       = 11
	opRename      = 12
	opLink        = 13
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opStatfs      = 17
	opRelease     = 18
	opFsync       = 20
	opInit        = 26
	opOpendir     = 27
	opReaddir     = 28
	opReleasedir  = 29
	opCreate      = 35
	opInterrupt   = 36
	opBatchForget = 42
	opRename2     = 45
)

// operation is how a request is carried out.
type operation struct {
	do     func(*server, *request) ([]byte, error)
	writes bool // refused where the directory is read-only
	silent bool // has no answer
}

var operations = map[uint32]operation{
	opInit:        {do: (*server).init},
	opLookup:      {do: (*server).lookup},
	opForget:      {do: (*server).forget, silent: true},
	opBatchForget: {do: (*server).batchForget, silent: true},
	opInterrupt:   {do: (*server).interrupt, silent: true},
	opGetattr:     {do: (*server).getattr},
	opSetattr:     {do: (*server).setattr, writes: true},
	opReadlink:    {do: (*server).readlink},
	opSymlink:     {do: (*server).refuse, writes: true},
	opLink:        {do: (*server).refuse, writes: true},
	opMknod:       {do: (*server).mknod, writes: true},
	opMkdir:       {do: (*server).mkdir, writes: true},
	opUnlink:      {do: (*server).unlink, writes: true},
	opRmdir:       {do: (*server).rmdir, writes: true},
	opRename:      {do: (*server).rename, writes: true},
	opRename2:     {do: (*server).rename2, writes: true},
	opOpen:        {do: (*server).open},
	opCreate:      {do: (*server).create, writes: true},
	opRead:        {do: (*server).read},
	opWrite:       {do: (*server).write, writes: true},
	opFsync:       {do: (*server).fsync},
	opRelease:     {do: (*server).release},
	opOpendir:     {do: (*server).opendir},
	opReaddir:     {do: (*server).readdir},
	opReleasedir:  {do: (*server).release},
	opStatfs:      {do: (*server).statfs},
}

// request is one message of the guest's kernel.
type request struct {
	operation uint32
	unique    uint64
	node      uint64
	body      fields
}

func (r *request) failed(e unix.Errno) []byte {
	b := r.succeeded(nil)
	binary.NativeEndian.PutUint32(b[4:], uint32(-int32(e))) // error numbers are small
	return b
}

func (r *request) succeeded(body []byte) []byte {
	b := make([]byte, answerHeader, answerHeader+len(body))
	binary.NativeEndian.PutUint32(b, uint32(answerHeader+len(body))) // bounded by every operation
	binary.NativeEndian.PutUint64(b[8:], r.unique)
	return append(b, body...)
}

// fields reads the body of a request. What it does not have reads as zero and makes it wrong; so does what is left over.
type fields struct {
	b     []byte
	wrong bool
}

func (f *fields) take(n int) []byte {
	if len(f.b) < n {
		f.wrong = true
		return make([]byte, n)
	}
	x := f.b[:n]
	f.b = f.b[n:]
	return x
}

func (f *fields) u32() uint32 { return binary.NativeEndian.Uint32(f.take(4)) }
func (f *fields) u64() uint64 { return binary.NativeEndian.Uint64(f.take(8)) }
func (f *fields) skip(n int)  { f.take(n) }

// name reads a name of a directory entry.
func (f *fields) name() string {
	at := bytes.IndexByte(f.b, 0)
	if at < 0 {
		f.wrong = true
		return ""
	}
	name := string(f.take(at))
	f.skip(1)
	if name == "" || name == "." || name == ".." || bytes.IndexByte([]byte(name), '/') >= 0 {
		f.wrong = true // the kernel resolves these itself
		return ""
	}
	return name
}

// end makes the body wrong if something is left, and reports whether it is in order.
func (f *fields) end() bool {
	f.wrong = f.wrong || len(f.b) > 0
	return !f.wrong
}

// builder builds the body of an answer.
type builder []byte

func (b *builder) u32(v uint32) { *b = binary.NativeEndian.AppendUint32(*b, v) }
func (b *builder) u64(v uint64) { *b = binary.NativeEndian.AppendUint64(*b, v) }

// validity is how long the guest may take names and attributes for true, in seconds: others may change the directory.
const validity = 1

// attr adds a struct fuse_attr. The guest sees one owner, and modes that let every user of a container in, as on a network
// share that knows no others.
func (b *builder) attr(id uint64, st *unix.Stat_t) {
	b.u64(id)
	b.u64(uint64(st.Size)) // not negative
	b.u64(uint64(st.Blocks))
	for _, t := range []unix.Timespec{st.Atim, st.Mtim, st.Ctim} {
		b.u64(uint64(t.Sec)) // read as signed
	}
	for _, t := range []unix.Timespec{st.Atim, st.Mtim, st.Ctim} {
		b.u32(uint32(t.Nsec)) // below 1e9
	}
	b.u32(mode(st))
	b.u32(1) // links
	b.u32(0) // user
	b.u32(0) // group
	b.u32(0) // device
	b.u32(4096)
	b.u32(0)
}

func mode(st *unix.Stat_t) uint32 {
	kind := st.Mode & unix.S_IFMT
	switch {
	case kind == unix.S_IFDIR, kind == unix.S_IFLNK, kind == unix.S_IFREG && st.Mode&0o100 != 0:
		return kind | 0o777
	case kind == unix.S_IFREG:
		return kind | 0o666
	}
	return kind
}

// entry adds a struct fuse_entry_out.
func (b *builder) entry(id uint64, st *unix.Stat_t) {
	b.u64(id)
	b.u64(0) // generation
	b.u64(validity)
	b.u64(validity)
	b.u64(0) // nanoseconds of both
	b.attr(id, st)
}

// attributes adds a struct fuse_attr_out.
func (b *builder) attributes(id uint64, st *unix.Stat_t) {
	b.u64(validity)
	b.u64(0)
	b.attr(id, st)
}
