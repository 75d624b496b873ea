// SPDX-License-Identifier: Apache-2.0

package gitrepo

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
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

// list lists the commit's files. Symbolic links and submodules are counted and left out.
func (r *repository) list(ctx context.Context, commit string) ([]entry, int, error) {
	out, err := r.run(ctx, "ls-tree", "-r", "-z", "--full-tree", commit)
	if err != nil {
		return nil, 0, err
	}
	var entries []entry
	left := 0
	for line := range bytes.SplitSeq(bytes.TrimSuffix(out, []byte{0}), []byte{0}) {
		if len(line) == 0 {
			continue // a commit without any file
		}
		head, path, ok := strings.Cut(string(line), "\t")
		fields := strings.Fields(head)
		if !ok || len(fields) != 3 {
			return nil, 0, fmt.Errorf("git listed %q, which is no entry of a tree", line)
		}
		switch fields[0] {
		case modeFile, modeExecutable, modeGroupWrite:
			entries = append(entries, entry{path: path, object: fields[2], executable: fields[0] == modeExecutable})
		default:
			left++
		}
		if len(entries) > r.o.MaxFiles {
			return nil, 0, fmt.Errorf("it has more than %d files", r.o.MaxFiles)
		}
	}
	return entries, left, nil
}

// contents calls fn for each entry with its content.
func (r *repository) contents(ctx context.Context, entries []entry, fn func(File) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := r.command(ctx, "cat-file", "--batch")
	var errs bytes.Buffer
	cmd.Stderr = &errs
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("reading objects: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("reading objects: %w", err)
	}
	runtime.LockOSThread() // as in run
	defer runtime.UnlockOSThread()
	err = cmd.Start()
	if err != nil {
		return r.failed("cat-file", err, "")
	}
	err = r.batch(in, bufio.NewReader(out), entries, fn)
	if err != nil {
		cancel()
	}
	errIn := in.Close()
	errWait := cmd.Wait()
	if err != nil {
		return err
	}
	err = errors.Join(errIn, errWait)
	if err != nil {
		return r.failed("cat-file", err, errs.String())
	}
	return nil
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
