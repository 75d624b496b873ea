// SPDX-License-Identifier: Apache-2.0

package fusefile

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// Nodes of the directory and of the file.
const (
	rootNode = fuse.FUSE_ROOT_ID
	dataNode = 2
)

// patience is for how long nobody looks whether a request is still wanted.
const patience = 50 * time.Millisecond

// forever is how long the kernel may believe names and attributes: nothing changes them.
const forever = 24 * time.Hour

// file answers the kernel.
type file struct {
	fuse.RawFileSystem
	device  aligned
	opts    Options
	started time.Time
	opened  atomic.Int64 // handles
}

func (f *file) String() string { return "cofferdam" }

// within runs an operation until its deadline, or until the kernel is not interested any more, if cancel says so.
func (f *file) within(cancel <-chan struct{}, name string, do func(context.Context) error) fuse.Status {
	ctx, stop := context.WithTimeout(context.Background(), f.opts.Deadline)
	defer stop()
	if cancel != nil {
		slow := time.AfterFunc(patience, func() { // most requests have ended by then
			select {
			case <-cancel:
				stop()
			case <-ctx.Done():
			}
		})
		defer slow.Stop()
	}
	return f.status(name, do(ctx))
}

// status is the error that a program gets to see.
func (f *file) status(operation string, err error) fuse.Status {
	if err == nil {
		return fuse.OK
	}
	if f.opts.Failed != nil {
		f.opts.Failed(operation, err)
	}
	for _, e := range []syscall.Errno{syscall.ENOSPC, syscall.EROFS, syscall.EDQUOT} {
		if errors.Is(err, e) {
			return fuse.Status(e)
		}
	}
	if errors.Is(err, context.Canceled) {
		return fuse.EINTR
	}
	return fuse.EIO
}

func (f *file) attr(node uint64, out *fuse.Attr) {
	out.Ino, out.Nlink = node, 1
	out.Uid, out.Gid = uint32(os.Geteuid()), uint32(os.Getegid())
	out.SetTimes(&f.started, &f.started, &f.started)
	if node == rootNode {
		out.Mode, out.Nlink = unix.S_IFDIR|0o500, 2
		return
	}
	out.Mode = unix.S_IFREG | 0o400
	if f.opts.Write {
		out.Mode |= 0o200
	}
	out.Size = uint64(f.device.device.Size())
	out.Blocks = out.Size / 512
	out.Blksize = uint32(f.device.block)
}

func (f *file) Lookup(_ <-chan struct{}, in *fuse.InHeader, name string, out *fuse.EntryOut) fuse.Status {
	if in.NodeId != rootNode || name != Name {
		return fuse.ENOENT
	}
	f.entry(out)
	return fuse.OK
}

func (f *file) entry(out *fuse.EntryOut) {
	out.NodeId, out.Generation = dataNode, 1
	out.SetEntryTimeout(forever)
	out.SetAttrTimeout(forever)
	f.attr(dataNode, &out.Attr)
}

func (f *file) GetAttr(_ <-chan struct{}, in *fuse.GetAttrIn, out *fuse.AttrOut) fuse.Status {
	out.SetTimeout(forever)
	f.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

// SetAttr accepts what changes nothing that counts: the kernel sets times when it writes.
func (f *file) SetAttr(_ <-chan struct{}, in *fuse.SetAttrIn, out *fuse.AttrOut) fuse.Status {
	if size, ok := in.GetSize(); ok && (in.NodeId != dataNode || int64(size) != f.device.device.Size()) {
		return fuse.EPERM
	}
	const others = fuse.FATTR_MODE | fuse.FATTR_UID | fuse.FATTR_GID
	if in.Valid&others != 0 {
		return fuse.EPERM
	}
	out.SetTimeout(forever)
	f.attr(in.NodeId, &out.Attr)
	return fuse.OK
}

func (f *file) Open(_ <-chan struct{}, in *fuse.OpenIn, out *fuse.OpenOut) fuse.Status {
	switch {
	case in.NodeId != dataNode:
		return fuse.Status(syscall.EISDIR)
	case in.Flags&unix.O_ACCMODE != unix.O_RDONLY && !f.opts.Write:
		return fuse.EROFS
	}
	f.opened.Add(1)
	out.OpenFlags = fuse.FOPEN_KEEP_CACHE // nobody but the kernel changes the content
	return fuse.OK
}

func (f *file) Release(<-chan struct{}, *fuse.ReleaseIn) {
	if f.opened.Add(-1) == 0 && f.opts.Closed != nil {
		f.opts.Closed()
	}
}

func (f *file) Read(cancel <-chan struct{}, in *fuse.ReadIn, buf []byte) (fuse.ReadResult, fuse.Status) {
	size := f.device.device.Size()
	if in.NodeId != dataNode || in.Offset > uint64(size) {
		return fuse.ReadResultData(nil), fuse.OK
	}
	off := int64(in.Offset)
	p := buf[:min(int64(len(buf)), size-off)]
	s := f.within(cancel, "read", func(ctx context.Context) error { return f.device.read(ctx, p, off) })
	if s != fuse.OK {
		return nil, s
	}
	return fuse.ReadResultData(p), fuse.OK
}

// Write is not interrupted: what a block holds that was written in part nobody could tell.
func (f *file) Write(_ <-chan struct{}, in *fuse.WriteIn, data []byte) (uint32, fuse.Status) {
	if !f.opts.Write {
		return 0, fuse.EROFS
	}
	if !f.inside(in.NodeId, in.Offset, uint64(len(data))) {
		return 0, fuse.Status(syscall.ENOSPC) // as at the end of a block device
	}
	s := f.within(nil, "write", func(ctx context.Context) error { return f.device.write(ctx, data, int64(in.Offset)) })
	if s != fuse.OK {
		return 0, s
	}
	return uint32(len(data)), fuse.OK // at most maxRequest
}

// inside says whether a range lies in the file.
func (f *file) inside(node, off, length uint64) bool {
	size := uint64(f.device.device.Size())
	return node == dataNode && length <= size && off <= size-length
}

// Flush is called when somebody closes the file, which promises nothing.
func (f *file) Flush(<-chan struct{}, *fuse.FlushIn) fuse.Status { return fuse.OK }

func (f *file) Fsync(_ <-chan struct{}, in *fuse.FsyncIn) fuse.Status {
	if in.NodeId != dataNode || !f.opts.Write {
		return fuse.OK
	}
	// It is not interrupted: whoever asked may be gone, but a commit goes through or does not.
	return f.within(nil, "flush", f.device.device.Flush)
}

// Fallocate makes zeros, as a loop device asks for when blocks are discarded.
func (f *file) Fallocate(_ <-chan struct{}, in *fuse.FallocateIn) fuse.Status {
	const keep, punch, zero = unix.FALLOC_FL_KEEP_SIZE, unix.FALLOC_FL_PUNCH_HOLE, unix.FALLOC_FL_ZERO_RANGE
	switch {
	case !f.opts.Write:
		return fuse.EROFS
	case in.Mode&^uint32(keep|punch|zero) != 0 || in.Mode&(punch|zero) == 0:
		return fuse.Status(syscall.EOPNOTSUPP)
	case !f.inside(in.NodeId, in.Offset, in.Length):
		return fuse.EINVAL
	}
	if _, can := f.device.device.(Discarder); !can && in.Mode&punch != 0 {
		return fuse.Status(syscall.EOPNOTSUPP) // writing zeros would take room, not give it back
	}
	return f.within(nil, "discard", func(ctx context.Context) error { return f.device.zero(ctx, int64(in.Length), int64(in.Offset)) })
}

func (f *file) OpenDir(_ <-chan struct{}, in *fuse.OpenIn, _ *fuse.OpenOut) fuse.Status {
	if in.NodeId != rootNode {
		return fuse.ENOTDIR
	}
	return fuse.OK
}

func (f *file) ReadDir(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if in.Offset == 0 {
		out.AddDirEntry(fuse.DirEntry{Name: Name, Ino: dataNode, Mode: unix.S_IFREG})
	}
	return fuse.OK
}

func (f *file) ReadDirPlus(_ <-chan struct{}, in *fuse.ReadIn, out *fuse.DirEntryList) fuse.Status {
	if in.Offset > 0 {
		return fuse.OK
	}
	if entry := out.AddDirLookupEntry(fuse.DirEntry{Name: Name, Ino: dataNode, Mode: unix.S_IFREG}); entry != nil {
		f.entry(entry)
	}
	return fuse.OK
}

func (f *file) StatFs(_ <-chan struct{}, _ *fuse.InHeader, out *fuse.StatfsOut) fuse.Status {
	out.Bsize, out.Frsize = uint32(f.device.block), uint32(f.device.block)
	out.Blocks = uint64(f.device.device.Size() / f.device.block)
	out.NameLen, out.Files = 255, 1
	return fuse.OK
}
