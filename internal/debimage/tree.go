// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A tree is listed one file a line, sorted by path:
//
//	path mode uid gid type detail
//
// where path is relative, with a leading "./" and quoted as in Go if it holds anything unusual; mode is octal without
// the type; type is one of f d l p s c b; detail is the SHA-256 of a file's content, the target of a symbolic link (quoted
// likewise), the numbers of a device, or "-".

// treeLine is one file before it is written as a line.
type treeLine struct {
	path     string
	mode     uint32 // as in struct stat
	uid, gid uint32
	detail   string
}

// ListTree lists a directory of this machine.
func ListTree(dir string) (string, error) {
	var lines []treeLine
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		l, err := lineOf(path)
		if err != nil {
			return err
		}
		l.path = "./" + rel
		if rel == "." {
			l.path = "."
		}
		lines = append(lines, l)
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("listing %s: %w", dir, err)
	}
	return render(lines), nil
}

func lineOf(path string) (treeLine, error) {
	var st unix.Stat_t
	err := unix.Lstat(path, &st)
	if err != nil {
		return treeLine{}, &fs.PathError{Op: "lstat", Path: path, Err: err}
	}
	l := treeLine{mode: st.Mode, uid: st.Uid, gid: st.Gid, detail: "-"}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b, err := os.ReadFile(path)
		if err != nil {
			return treeLine{}, err
		}
		l.detail = fmt.Sprintf("%x", sha256.Sum256(b))
	case unix.S_IFLNK:
		target, err := os.Readlink(path)
		if err != nil {
			return treeLine{}, err
		}
		l.detail = quote(target)
	case unix.S_IFCHR, unix.S_IFBLK:
		l.detail = fmt.Sprintf("%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	}
	return l, nil
}

func render(lines []treeLine) string {
	slices.SortFunc(lines, func(a, b treeLine) int { return strings.Compare(a.path, b.path) })
	types := map[uint32]string{
		unix.S_IFREG: "f", unix.S_IFDIR: "d", unix.S_IFLNK: "l", unix.S_IFIFO: "p", unix.S_IFSOCK: "s", unix.S_IFCHR: "c", unix.S_IFBLK: "b",
	}
	var b strings.Builder
	for _, l := range lines {
		fmt.Fprintf(&b, "%s %04o %d %d %s %s\n", quote(l.path), l.mode&0o7777, l.uid, l.gid, types[l.mode&unix.S_IFMT], l.detail)
	}
	return b.String()
}

// quote leaves plain words alone.
func quote(s string) string {
	if q := strconv.Quote(s); q[1:len(q)-1] != s || s == "" || strings.ContainsRune(s, ' ') {
		return q
	}
	return s
}

// Markers between the parts of what TreeCommand prints.
const (
	markFiles = "== files"
	markLinks = "== links"
	markEnd   = "== end"
)

// TreeCommand returns the command that prints the raw facts about a directory where there is a busybox and nothing
// else. ParseTree turns what it prints into the listing that ListTree makes. The names must not hold newlines.
func TreeCommand(dir string) []string {
	return []string{"/bin/busybox", "sh", "-c", `set -e
cd "$0"
find . -exec stat -c '%f %u %g %t:%T %n' {} +
echo '` + markFiles + `'
find . -type f -exec sha256sum {} +
echo '` + markLinks + `'
find . -type l | while IFS= read -r f; do echo "$f"; readlink "$f"; done
echo '` + markEnd + `'
`, dir}
}

// ParseTree reads what TreeCommand printed.
func ParseTree(out []byte) (string, error) {
	s := bufio.NewScanner(bytes.NewReader(out))
	lines := map[string]*treeLine{}
	err := parseStats(s, lines)
	if err != nil {
		return "", fmt.Errorf("reading a listing: %w", err)
	}
	for s.Scan() && s.Text() != markLinks {
		sum, path, ok := strings.Cut(s.Text(), "  ")
		if !ok || lines[path] == nil {
			return "", fmt.Errorf("reading a listing: unexpected digest %q", s.Text())
		}
		lines[path].detail = sum
	}
	for s.Scan() && s.Text() != markEnd {
		l := lines[s.Text()]
		if l == nil || !s.Scan() {
			return "", fmt.Errorf("reading a listing: unexpected link %q", s.Text())
		}
		l.detail = quote(s.Text())
	}
	if s.Text() != markEnd {
		return "", errors.Join(errors.New("reading a listing: it is not complete"), s.Err())
	}
	all := make([]treeLine, 0, len(lines))
	for _, l := range lines {
		all = append(all, *l)
	}
	return render(all), nil
}

func parseStats(s *bufio.Scanner, lines map[string]*treeLine) error {
	for s.Scan() && s.Text() != markFiles {
		f := strings.SplitN(s.Text(), " ", 5)
		if len(f) != 5 {
			return fmt.Errorf("unexpected line %q", s.Text())
		}
		var numbers [3]uint64
		for i, base := range []int{16, 10, 10} {
			n, err := strconv.ParseUint(f[i], base, 32)
			if err != nil {
				return fmt.Errorf("unexpected line %q: %w", s.Text(), err)
			}
			numbers[i] = n
		}
		l := &treeLine{path: f[4], mode: uint32(numbers[0]), uid: uint32(numbers[1]), gid: uint32(numbers[2]), detail: "-"}
		if t := l.mode & unix.S_IFMT; t == unix.S_IFCHR || t == unix.S_IFBLK {
			var major, minor uint32
			_, err := fmt.Sscanf(f[3], "%x:%x", &major, &minor)
			if err != nil {
				return fmt.Errorf("unexpected line %q: %w", s.Text(), err)
			}
			l.detail = fmt.Sprintf("%d:%d", major, minor)
		}
		lines[l.path] = l
	}
	return nil
}

// ExpectedTree unpacks the layers7 image with umoci, which shares no code with this project, and lists the tree in it.
// It needs root, because files get their owners, and leaves what it unpacks in tmp.
func ExpectedTree(ctx context.Context, archive, tmp string) (string, error) {
	layout, bundle := filepath.Join(tmp, "layout"), filepath.Join(tmp, "bundle")
	err := extract(archive, layout)
	if err != nil {
		return "", fmt.Errorf("extracting %s: %w", archive, err)
	}
	out, err := exec.CommandContext(ctx, "umoci", "unpack", "--image", layout+":layers7", bundle).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("unpacking %s: %w: %s", archive, err, bytes.TrimSpace(out))
	}
	return ListTree(filepath.Join(bundle, "rootfs", TreeRoot))
}

// extract unpacks an OCI archive of our own making, which holds regular files only.
func extract(archive, dir string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // only read
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag != tar.TypeReg || !filepath.IsLocal(h.Name) {
			return fmt.Errorf("unexpected entry %q", h.Name)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		name := filepath.Join(dir, h.Name)
		err = os.MkdirAll(filepath.Dir(name), 0o750)
		if err != nil {
			return err
		}
		err = os.WriteFile(name, b, 0o600)
		if err != nil {
			return err
		}
	}
}
