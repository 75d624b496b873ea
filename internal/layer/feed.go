// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"math"
	"path"
	"strings"
)

// Limits on one entry. Beyond them the converter would write a file system that reads differently from the tar, or
// one that no kernel can use.
const (
	maxName    = 4096            // bytes; PATH_MAX, and it bounds how deep directories nest
	maxXattr   = 255             // bytes in the name of an extended attribute; XATTR_NAME_MAX
	maxMajor   = 1<<12 - 1       // device numbers, as the kernel splits them
	maxMinor   = 1<<20 - 1       //
	maxFile    = 339 * (1 << 27) // bytes; the converter places what one block of extents can hold
	maxHeader  = 8 << 20         // bytes of headers before one entry
	whiteout   = ".wh."
	xattrKey   = "SCHILY.xattr."
	sparseKey  = "GNU.sparse."
	feedBuffer = 32 << 10
)

// ErrEntry reports an entry of a layer that cannot be converted faithfully.
var ErrEntry = errors.New("entry cannot be converted")

// feed passes a tar stream on unchanged and keeps track of the entries in it. No read returns bytes of two entries, so
// the entry that the reader works on is always the current one.
type feed struct {
	raw     *rawReader
	tar     *tar.Reader
	pending []byte // of the stream, read by the parser and not yet passed on
	body    bool   // the entry's content comes next and is passed on directly
	spread  bool   // the entry is sparse: what the parser returns is not what the stream holds
	scratch []byte
	err     error // what the parser said at the end

	entry   string // name of the current entry
	entries int64
	content int64 // bytes of content that the entries so far declare
	orphans *tally
	limits  Limits
}

// rawReader hands out the stream and keeps a copy of what it hands out while keep is set.
type rawReader struct {
	r    io.Reader
	kept []byte
	keep bool
	n    int64
}

func (r *rawReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	if r.keep {
		if len(r.kept)+n > maxHeader {
			return 0, fmt.Errorf("%w: its headers have more than %d bytes", ErrEntry, maxHeader)
		}
		r.kept = append(r.kept, p[:n]...)
	}
	return n, err
}

func newFeed(r io.Reader, limits Limits) *feed {
	raw := &rawReader{r: r}
	return &feed{raw: raw, tar: tar.NewReader(raw), orphans: newTally(), limits: limits}
}

func (f *feed) Read(p []byte) (int, error) {
	for {
		if len(f.pending) > 0 {
			n := copy(p, f.pending)
			f.pending = f.pending[n:]
			return n, nil
		}
		if f.err != nil {
			return 0, f.err
		}
		if f.body {
			n, err := f.readBody(p)
			if n > 0 || err != nil {
				return n, err
			}
			continue
		}
		f.next()
	}
}

// readBody passes on content. It returns neither bytes nor an error when the content has ended.
func (f *feed) readBody(p []byte) (int, error) {
	if f.spread {
		return 0, f.readSparse()
	}
	before := f.raw.n
	n, err := f.tar.Read(p)
	if f.raw.n-before != int64(n) {
		return 0, fmt.Errorf("%w: %s: content and stream differ", ErrEntry, f.entry)
	}
	if errors.Is(err, io.EOF) {
		f.body = false
		err = nil
	}
	return n, err
}

// readSparse lets the parser read content, and keeps what the stream held for it.
func (f *feed) readSparse() error {
	if f.scratch == nil {
		f.scratch = make([]byte, feedBuffer)
	}
	f.raw.keep, f.raw.kept = true, f.raw.kept[:0]
	_, err := f.tar.Read(f.scratch)
	f.raw.keep = false
	f.pending = f.raw.kept
	if errors.Is(err, io.EOF) {
		f.body = false
		err = nil
	}
	return err
}

// next parses the next header. The bytes of the header, and of the padding before it, become pending.
func (f *feed) next() {
	f.raw.keep, f.raw.kept = true, f.raw.kept[:0]
	h, err := f.tar.Next()
	f.raw.keep = false
	f.pending = f.raw.kept
	if err == nil {
		err = f.check(h)
	} else if !errors.Is(err, io.EOF) {
		err = fmt.Errorf("after entry %d (%q): %w", f.entries, f.entry, err)
	}
	if err != nil {
		f.err = err
		if !errors.Is(err, io.EOF) {
			f.pending = nil
		}
		return
	}
	f.body = true
	f.spread = isSparse(h)
}

func isSparse(h *tar.Header) bool {
	if h.Typeflag == tar.TypeGNUSparse {
		return true
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, sparseKey) {
			return true
		}
	}
	return false
}

// check refuses what the converter would get wrong without a word.
func (f *feed) check(h *tar.Header) error {
	f.entries++
	f.entry = h.Name
	f.content += h.Size
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s: %s", ErrEntry, shorten(h.Name), fmt.Sprintf(format, args...))
	}
	base := path.Base(path.Clean("/" + h.Name))
	switch {
	case f.entries > f.limits.Entries:
		return fmt.Errorf("%w: the layer has more than %d entries", ErrTooLarge, f.limits.Entries)
	case f.content > f.limits.Size:
		return fmt.Errorf("%w: %s: the files so far add up to more than %d bytes", ErrTooLarge, shorten(h.Name), f.limits.Size)
	case len(h.Name) > maxName:
		return refuse("its name has %d bytes, expected at most %d", len(h.Name), maxName)
	case len(h.Linkname) >= maxName:
		return refuse("its link target has %d bytes, expected fewer than %d", len(h.Linkname), maxName)
	case h.Size < 0 || h.Size > maxFile:
		return refuse("its size is %d, expected 0 to %d", h.Size, int64(maxFile))
	case !isID(h.Uid) || !isID(h.Gid):
		return refuse("its owner is %d:%d, expected IDs from 0 to %d", h.Uid, h.Gid, uint32(math.MaxUint32))
	case h.Devmajor < 0 || h.Devmajor > maxMajor || h.Devminor < 0 || h.Devminor > maxMinor:
		return refuse("its device number is %d:%d, expected at most %d:%d", h.Devmajor, h.Devminor, maxMajor, maxMinor)
	case hidesItsDirectory(h.Name):
		return refuse("a whiteout must name a file")
	case len(base) > 255:
		return refuse("its last component has %d bytes, expected at most 255", len(base))
	}
	for key := range h.PAXRecords {
		name, ok := strings.CutPrefix(key, xattrKey)
		if ok && (name == "" || len(name) > maxXattr) {
			return refuse("the name of an extended attribute has %d bytes, expected 1 to %d", len(name), maxXattr)
		}
	}
	f.orphans.note(h)
	return nil
}

func isID(id int) bool { return id >= 0 && int64(id) <= math.MaxUint32 }

// hidesItsDirectory reports a whiteout of "", "." or "..": the converter would turn a directory into a whiteout.
func hidesItsDirectory(name string) bool {
	_, file := path.Split(name)
	target, ok := strings.CutPrefix(file, whiteout)
	return ok && (target == "" || target == "." || target == "..")
}

// shorten keeps names in messages readable.
func shorten(name string) string {
	const most = 200
	if len(name) > most {
		return fmt.Sprintf("%q…", name[:most])
	}
	return fmt.Sprintf("%q", name)
}
