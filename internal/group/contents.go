// SPDX-License-Identifier: Apache-2.0

package group

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"cofferdam.dev/internal/spec"

	"golang.org/x/sys/unix"
)

// ErrContentsNeeded says that a group has volumes whose files have to be given each time that it is started: they are
// stored nowhere.
var ErrContentsNeeded = errors.New("the files of the group's volumes have to be given again: they are not stored")

// maxContents bounds the content of all files together, in bytes.
const maxContents = 16 << 20

// NeedsContents reports whether a group of the plan starts only with Contents.
func (p *Plan) NeedsContents() bool {
	for _, v := range p.Volumes {
		if len(v.Files) > 0 {
			return true
		}
	}
	return false
}

// check makes sure that c holds exactly the files of the plan's volumes.
func (c Contents) check(p *Plan) error {
	total := 0
	for _, v := range p.Volumes {
		given := map[string]bool{}
		for _, f := range c[v.Name] {
			given[f.Path] = true
			total += len(f.Content)
		}
		for _, f := range v.Files {
			if !given[f.Path] {
				return fmt.Errorf("%w: volume %s has no content for %s", ErrContentsNeeded, v.Name, f.Path)
			}
			delete(given, f.Path)
		}
		for path := range given {
			return fmt.Errorf("volume %s of the plan has no file %s, whose content was given", v.Name, path)
		}
	}
	if total > maxContents {
		return fmt.Errorf("the files of the volumes have %d bytes together, limit is %d", total, maxContents)
	}
	return nil
}

// Zero overwrites every content. Copies that were made on the way to a guest are left to the garbage collector.
func (c Contents) Zero() {
	for _, files := range c {
		for _, f := range files {
			clear(f.Content)
		}
	}
}

// seals are those of a file of contents: whoever inherits it sees what was written, and nothing else ever.
const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// file returns c as a file in memory that has no name and can not be changed any more.
func (c Contents) file(p *Plan) (*os.File, error) {
	fd, err := unix.MemfdCreate("contents", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("handing over the volumes' files: %w", err)
	}
	f := os.NewFile(uintptr(fd), "contents")
	for _, v := range p.Volumes {
		for _, file := range c[v.Name] {
			head := appendField(nil, []byte(v.Name))
			head = appendField(head, []byte(file.Path))
			head = binary.BigEndian.AppendUint32(head, file.Mode)
			head = binary.BigEndian.AppendUint32(head, uint32(len(file.Content))) // at most maxContents
			_, errHead := f.Write(head)
			_, errContent := f.Write(file.Content)
			err = errors.Join(err, errHead, errContent)
		}
	}
	if err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("handing over the volumes' files: %w", err), f.Close())
	}
	return f, nil
}

func appendField(b, field []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(field))) // a name or a path
	return append(b, field...)
}

// InheritContents takes over the contents that Start handed to this process, and makes sure that they are the plan's.
func InheritContents(p *Plan) (Contents, error) {
	unix.CloseOnExec(ContentsFD)
	has, err := unix.FcntlInt(ContentsFD, unix.F_GET_SEALS, 0)
	if err != nil || has&seals != seals {
		return nil, ErrContentsNeeded
	}
	f := os.NewFile(ContentsFD, "contents")
	defer func() { _ = f.Close() }() // opened for reading only, by us
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("taking over the volumes' files: %w", err)
	}
	if info.Size() > 2*maxContents {
		return nil, fmt.Errorf("the volumes' files take %d bytes, limit is %d", info.Size(), 2*maxContents)
	}
	data := make([]byte, info.Size())
	_, err = f.ReadAt(data, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("taking over the volumes' files: %w", err)
	}
	c, err := parseContents(data)
	if err == nil {
		err = c.check(p)
	}
	if err != nil {
		clear(data)
		return nil, err
	}
	return c, nil
}

// parseContents reads what file wrote. The contents share data's memory.
func parseContents(data []byte) (Contents, error) {
	c := Contents{}
	for len(data) > 0 {
		volume, rest, ok1 := cutField(data)
		path, rest, ok2 := cutField(rest)
		if !ok1 || !ok2 || len(rest) < 4 {
			return nil, errors.New("the volumes' files are cut short")
		}
		mode := binary.BigEndian.Uint32(rest)
		content, rest, ok := cutField(rest[4:])
		if !ok {
			return nil, errors.New("the volumes' files are cut short")
		}
		name := string(volume)
		c[name] = append(c[name], spec.File{Path: string(path), Content: content, Mode: mode})
		data = rest
	}
	return c, nil
}

func cutField(b []byte) (field, rest []byte, ok bool) {
	if len(b) < 4 {
		return nil, nil, false
	}
	n := binary.BigEndian.Uint32(b)
	if uint64(n) > uint64(len(b)-4) {
		return nil, nil, false
	}
	return b[4 : 4+n : 4+n], b[4+n:], true
}
