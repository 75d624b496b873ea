// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
)

// ErrChanged says that a file was changed while the image was made.
var ErrChanged = errors.New("the file was changed while it was read")

// runSize is how much of each part of an image is collected before it is written, in bytes.
const runSize = 512 << 10

// run writes a part of an image in order.
type run struct {
	w   io.WriterAt
	at  int64 // where what is collected belongs
	buf []byte
}

func newRun(w io.WriterAt, block uint32) *run {
	return &run{w, int64(block) * BlockSize, make([]byte, 0, runSize)}
}

// room is where the next bytes may be put, followed by advance.
func (r *run) room() []byte { return r.buf[len(r.buf):cap(r.buf)] }

func (r *run) advance(n int) error {
	r.buf = r.buf[:len(r.buf)+n]
	if len(r.buf) == cap(r.buf) {
		return r.flush()
	}
	return nil
}

func (r *run) add(p []byte) error {
	for len(p) > 0 {
		n := copy(r.room(), p)
		p = p[n:]
		err := r.advance(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// pad adds zeros up to a place in the image.
func (r *run) pad(to int64) error {
	for r.at+int64(len(r.buf)) < to {
		n := int(min(to-r.at-int64(len(r.buf)), int64(len(r.room()))))
		clear(r.room()[:n])
		err := r.advance(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// padBlock adds zeros up to the end of a block.
func (r *run) padBlock() error {
	return r.pad((r.at + int64(len(r.buf)) + BlockSize - 1) &^ (BlockSize - 1))
}

func (r *run) flush() error {
	if len(r.buf) == 0 {
		return nil
	}
	_, err := r.w.WriteAt(r.buf, r.at)
	r.at, r.buf = r.at+int64(len(r.buf)), r.buf[:0]
	return err
}

// writer has the three parts of an image, each of which is written in order.
type writer struct {
	*Plan
	meta, dirs, data *run
}

// Write writes the image. It calls w with whole blocks, and with each block once. A file that is not what it was when the plan
// was made is an error that wraps ErrChanged.
func (p *Plan) Write(ctx context.Context, w io.WriterAt) error {
	err := p.write(ctx, w)
	if err != nil {
		return fmt.Errorf("writing an EROFS image: %w", err)
	}
	return nil
}

func (p *Plan) write(ctx context.Context, to io.WriterAt) error {
	w := &writer{p, newRun(to, 0), newRun(to, p.dirStart), newRun(to, p.dataStart)}
	err := w.meta.add(p.superblock())
	if err != nil {
		return err
	}
	for n, i := range p.inodes {
		err = w.inode(ctx, i, uint32(n)+1) // every inode takes a slot of an image of at most 16 TiB, and is only shown
		if err != nil {
			return fmt.Errorf("%s: %w", i.path(), err)
		}
	}
	err = w.meta.padBlock()
	if err != nil {
		return err
	}
	return errors.Join(w.meta.flush(), w.dirs.flush(), w.data.flush())
}

func (w *writer) inode(ctx context.Context, i *inode, number uint32) error {
	err := w.meta.pad(int64(i.nid) * slot) // below 2^44
	if err != nil {
		return err
	}
	err = w.meta.add(append(i.append(nil, number), i.xattrs...))
	if err != nil {
		return err
	}
	switch i.kind() {
	case modeDir:
		return dirBlocks(i.entries, func(b []byte) error { return w.part(i, w.dirs, b) })
	case modeSymlink:
		return w.part(i, w.dirs, []byte(i.target))
	case modeRegular:
		if i.size > 0 {
			return w.file(ctx, i)
		}
	}
	return nil
}

// part writes a whole block or the end of an inode's data: to a run, or beside the inode.
func (w *writer) part(i *inode, to *run, b []byte) error {
	if i.inline && len(b) < BlockSize {
		return w.meta.add(b)
	}
	err := to.add(b)
	if err != nil {
		return err
	}
	return to.padBlock()
}

// file copies a file's content.
func (w *writer) file(ctx context.Context, i *inode) error {
	f, err := w.fsys.Open(i.path())
	if err != nil {
		return err
	}
	err = w.content(ctx, i, f)
	return errors.Join(err, f.Close())
}

func (w *writer) content(ctx context.Context, i *inode, f fs.File) error {
	err := unchanged(i, f)
	if err != nil {
		return err
	}
	left := i.size
	for left >= BlockSize {
		err = context.Cause(ctx)
		if err != nil {
			return err
		}
		room := w.data.room()
		n := int(min(int64(len(room)), left&^(BlockSize-1)))
		err = readFull(f, room[:n])
		if err != nil {
			return err
		}
		err = w.data.advance(n)
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	var tail [BlockSize]byte
	err = readFull(f, tail[:left])
	if err == nil && left > 0 {
		err = w.part(i, w.data, tail[:left])
	}
	if err != nil {
		return err
	}
	n, err := io.ReadFull(f, tail[:1])
	if n != 0 || !errors.Is(err, io.EOF) {
		return errors.Join(ErrChanged, err)
	}
	return unchanged(i, f)
}

func readFull(f fs.File, p []byte) error {
	_, err := io.ReadFull(f, p)
	if len(p) > 0 && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
		return fmt.Errorf("%w: it ends early", ErrChanged)
	}
	return err
}

// unchanged compares an open file with the plan.
func unchanged(i *inode, f fs.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != i.size || !info.ModTime().Equal(i.changed) {
		return ErrChanged
	}
	return nil
}
