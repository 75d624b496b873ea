// SPDX-License-Identifier: Apache-2.0

package cpio

import (
	"bufio"
	"fmt"
	"io"
	"strings"
)

// Write writes an archive of the entries, in any order given, to w.
func Write(w io.Writer, entries []Entry) error {
	list, err := sorted(entries)
	if err != nil {
		return err
	}
	out := &padded{w: bufio.NewWriter(w)}
	for i, e := range list {
		out.entry(e, uint32(i+1))
	}
	out.entry(Entry{Name: trailer}, 0)
	if out.err == nil {
		out.err = out.w.Flush()
	}
	if out.err != nil {
		return fmt.Errorf("writing cpio archive: %w", out.err)
	}
	return nil
}

// padded writes to w and remembers the first error and how much was written.
type padded struct {
	w   *bufio.Writer
	n   int64
	err error
}

func (p *padded) entry(e Entry, inode uint32) {
	links := 1
	if e.Mode&typeMask == TypeDir {
		links = 2
	}
	// inode, mode, uid, gid, nlink, mtime, filesize, devmajor, devminor, rdevmajor, rdevminor, namesize, check
	p.write([]byte(magic + strings.ToUpper(fmt.Sprintf("%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x",
		inode, e.Mode, 0, 0, links, 0, len(e.Data), 0, 0, e.Major, e.Minor, len(e.Name)+1, 0))))
	p.write([]byte(e.Name + "\x00"))
	p.align()
	p.write(e.Data)
	p.align()
}

func (p *padded) align() { p.write(make([]byte, -p.n&3)) }

func (p *padded) write(b []byte) {
	if p.err != nil {
		return
	}
	n, err := p.w.Write(b)
	p.n, p.err = p.n+int64(n), err
}
