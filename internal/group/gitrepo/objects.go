// SPDX-License-Identifier: Apache-2.0

package gitrepo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// The modes of a tree's entries that are files.
const (
	modeFile       = "100644"
	modeExecutable = "100755"
	modeGroupWrite = "100664" // old repositories have it
)

// entry is a file of a tree.
type entry struct {
	path, object string
	executable   bool
}

// maxEntry bounds the line of one entry, in bytes: its path is no longer than the guest takes.
const maxEntry = 4 << 10

// list lists the commit's files. Symbolic links and submodules are counted and left out. A small repository can list more than
// any memory holds, as its trees may hold each other many times over, so it is read only as far as it may go.
func (r *repository) list(ctx context.Context, commit string) ([]entry, int, error) {
	var entries []entry
	left := 0
	err := r.stream(ctx, func(_ io.Writer, out *bufio.Reader) error {
		for {
			line, err := readEntry(out)
			if errors.Is(err, io.EOF) {
				return nil
			}
			if err != nil {
				return err
			}
			e, file, err := parseEntry(line)
			switch {
			case err != nil:
				return err
			case file:
				entries = append(entries, e)
			default:
				left++
			}
			if len(entries)+left > r.o.MaxFiles {
				return fmt.Errorf("it has more than %d files", r.o.MaxFiles)
			}
		}
	}, "ls-tree", "-r", "-z", "--full-tree", commit)
	return entries, left, err
}

// readEntry reads a line that ends with a zero byte. It is io.EOF when there is none.
func readEntry(out *bufio.Reader) (string, error) {
	var line []byte
	for {
		b, err := out.ReadByte()
		switch {
		case errors.Is(err, io.EOF) && len(line) > 0:
			return "", io.ErrUnexpectedEOF
		case err != nil:
			return "", err
		case b == 0:
			return string(line), nil
		case len(line) == maxEntry:
			return "", fmt.Errorf("it has a path of more than %d bytes", maxEntry)
		}
		line = append(line, b)
	}
}

// parseEntry reads an entry of a tree, and whether it is a file.
func parseEntry(line string) (entry, bool, error) {
	head, path, ok := strings.Cut(line, "\t")
	fields := strings.Fields(head)
	if !ok || len(fields) != 3 {
		return entry{}, false, fmt.Errorf("git listed %q, which is no entry of a tree", line)
	}
	switch fields[0] {
	case modeFile, modeExecutable, modeGroupWrite:
		return entry{path: path, object: fields[2], executable: fields[0] == modeExecutable}, true, nil
	}
	return entry{}, false, nil
}

// contents calls fn for each entry with its content.
func (r *repository) contents(ctx context.Context, entries []entry, fn func(File) error) error {
	return r.stream(ctx, func(in io.Writer, out *bufio.Reader) error { return r.batch(in, out, entries, fn) }, "cat-file", "--batch")
}

// batch asks for one object after the other.
func (r *repository) batch(in io.Writer, out *bufio.Reader, entries []entry, fn func(File) error) error {
	var total int64
	for _, e := range entries {
		_, err := io.WriteString(in, e.object+"\n")
		if err != nil {
			return fmt.Errorf("asking for %s: %w", e.path, err)
		}
		head, err := out.ReadString('\n')
		if err != nil {
			return fmt.Errorf("reading %s: %w", e.path, err)
		}
		fields := strings.Fields(head)
		if len(fields) != 3 || fields[0] != e.object || fields[1] != "blob" {
			return fmt.Errorf("reading %s: git answered %q", e.path, head)
		}
		size, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil || size < 0 {
			return fmt.Errorf("reading %s: git answered %q", e.path, head)
		}
		total += size
		if total > r.o.MaxBytes {
			return fmt.Errorf("its files have more than %d bytes", r.o.MaxBytes)
		}
		content := io.LimitReader(out, size)
		err = fn(File{Path: e.path, Executable: e.executable, Size: size, Content: content})
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, content)
		if err == nil {
			_, err = out.ReadByte() // the newline after it
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", e.path, err)
		}
	}
	return nil
}
