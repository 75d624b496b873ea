// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

// realTree makes a directory in which every way to lie in an image occurs, as far as the user may.
func realTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	old := time.Unix(1_600_000_000, 5)
	put := func(name string, content []byte) {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o640)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []int{0, 1, 31, 100, 4000, 4064, 4065, 4095, 4096, 4097, 8191, 8192, 8193, 100_000, 3 << 20} {
		put(fmt.Sprintf("sizes/%d", n), noise(n))
	}
	for i := range 700 {
		put(fmt.Sprintf("many/%c%s-%d", '!'+rune(i%13), strings.Repeat("n", i%90), i), nil)
	}
	put("deep/er/and/deeper/file", []byte("here"))
	put("not \xff utf-8", []byte("x"))
	put("old", []byte("old"))
	put("attributes", noise(4000))
	put("many-attributes", noise(10))
	long := strings.Repeat("t", 3000)
	err := errors.Join(
		os.Mkdir(filepath.Join(dir, "empty"), 0o1777), os.Symlink("sizes/1", filepath.Join(dir, "link")), os.Symlink(long, filepath.Join(dir, "long")),
		os.Link(filepath.Join(dir, "old"), filepath.Join(dir, "deep", "same")), os.Chmod(filepath.Join(dir, "sizes", "31"), 0o4755|os.ModeSetuid),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600), os.Chtimes(filepath.Join(dir, "old"), old, old),
	)
	if err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		owner := unix.Lchown(filepath.Join(dir, "link"), 70_000, 1)
		device := unix.Mknod(filepath.Join(dir, "device"), unix.S_IFCHR|0o600, int(unix.Mkdev(259, 65_537))) // small
		if err := errors.Join(owner, device); err != nil {
			t.Fatal(err)
		}
	}
	// Version 2 of access control lists: the owner, the user 1000, the group, the mask, others; each with its rights.
	acl := []byte("\x02\x00\x00\x00" + "\x01\x00\x06\x00\xff\xff\xff\xff" + "\x02\x00\x04\x00\xe8\x03\x00\x00" +
		"\x04\x00\x04\x00\xff\xff\xff\xff" + "\x10\x00\x04\x00\xff\xff\xff\xff" + "\x20\x00\x00\x00\xff\xff\xff\xff")
	for name, attrs := range map[string][]Xattr{
		"attributes": {{"user.small", []byte("value")}}, "sizes/1": {{aclAccess, acl}}, "deep": {{aclDefault, acl}}, "many-attributes": {{"user.a", noise(3000)}, {"user.b", noise(900)}}, "empty": {{"user.of.a.directory", nil}},
	} {
		for _, a := range attrs {
			err := unix.Setxattr(filepath.Join(dir, name), a.Name, a.Value, 0)
			if err != nil && !errors.Is(err, unix.ENOTSUP) {
				t.Fatal(err)
			}
		}
	}
	return dir
}

// facts are what two trees must agree on.
type facts struct {
	Mode     fs.FileMode
	Owner    [2]uint32
	Device   uint64
	Links    uint64
	Modified time.Time
	Content  string
	Xattrs   []Xattr
}

// survey reads a directory. Without names the hard links are not counted, nor the attributes read.
func survey(t *testing.T, root string, whole bool) map[string]facts {
	t.Helper()
	dir, err := OpenDir(root)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dir.Close() }() // only read
	out := map[string]facts{}
	err = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		f := facts{Mode: info.Mode(), Owner: [2]uint32{st.Uid, st.Gid}, Modified: info.ModTime()}
		if e.Type()&fs.ModeDevice != 0 {
			f.Device = st.Rdev
		}
		if whole {
			f.Links = st.Nlink
			f.Xattrs, err = dir.Xattrs(name)
		}
		if err == nil && e.Type() == 0 {
			var b []byte
			b, err = os.ReadFile(path)
			f.Content = string(b)
		} else if err == nil && e.Type() == fs.ModeSymlink {
			f.Content, err = os.Readlink(path)
		}
		slices.SortFunc(f.Xattrs, func(a, b Xattr) int { return strings.Compare(a.Name, b.Name) })
		out[name] = f
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func compareTrees(t *testing.T, want, got map[string]facts) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); diff != "" {
		t.Errorf("the trees differ (-want +got):\n%.4000s", diff)
	}
}

// makeImage writes the image of a directory into a file.
func makeImage(t *testing.T, dir string) string {
	t.Helper()
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }() // only read
	p, err := NewPlan(t.Context(), d, Options{UUID: [16]byte{1, 2, 3, 4}, Label: "a label"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(p.Write(t.Context(), f), f.Close()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Size() != p.Size() {
		t.Fatalf("the file has %d bytes, want %d: %v", info.Size(), p.Size(), err)
	}
	return path
}

// TestDir reads what was made of a directory with the test's reader, and what mkfs.erofs makes of it, which holds the reader to
// the format and not to our writer.
func TestDir(t *testing.T) {
	t.Parallel()
	dir := realTree(t)
	t.Run("ours", func(t *testing.T) {
		t.Parallel()
		readBack(t, dir, makeImage(t, dir))
	})
	t.Run("mkfs.erofs", func(t *testing.T) {
		t.Parallel()
		testcap.Require(t, testcap.Erofs)
		path := filepath.Join(t.TempDir(), "image")
		text, err := exec.CommandContext(t.Context(), "mkfs.erofs", path, dir).CombinedOutput()
		if err != nil {
			t.Fatalf("mkfs.erofs: %v\n%s", err, text)
		}
		readBack(t, dir, path)
	})
}

// readBack compares an image with the directory that it is of.
func readBack(t *testing.T, dir, image string) {
	t.Helper()
	b, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	got, err := readImage(b)
	if err != nil {
		t.Fatal(err)
	}
	want := survey(t, dir, true)
	for name, w := range want {
		key := "./" + name
		if name == "." {
			key = name
		}
		g, ok := got[key]
		mode, err := unixMode(w.Mode)
		if err != nil {
			t.Fatal(err)
		}
		if !ok || g.Mode != mode || g.Content != w.Content || g.Seconds != w.Modified.Unix() || g.UID != w.Owner[0] || len(g.Xattrs) != len(w.Xattrs) {
			t.Errorf("%s: got %o with %d bytes and %d attributes, want %o with %d and %d", name, g.Mode, len(g.Content), len(g.Xattrs), mode, len(w.Content), len(w.Xattrs))
		}
	}
	if len(got) != len(want) {
		t.Errorf("the image has %d names, want %d", len(got), len(want))
	}
}

// TestDirLinks has symbolic links where files were.
func TestDirLinks(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	err := errors.Join(
		os.WriteFile(filepath.Join(dir, "file"), []byte("x"), 0o600), os.Mkdir(filepath.Join(dir, "dir"), 0o700),
		os.Symlink("file", filepath.Join(dir, "link")), os.Symlink("dir", filepath.Join(dir, "dirlink")), os.Symlink(outside, filepath.Join(dir, "out")),
	)
	if err != nil {
		t.Fatal(err)
	}
	d, err := OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }() // only read
	for _, name := range []string{"link", "dirlink", "out", "out/x", "../" + filepath.Base(outside)} {
		if f, err := d.Open(name); err == nil {
			t.Errorf("%s is opened: %v", name, f.Close())
		}
		if _, err := d.ReadDir(name); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	if _, err := d.Open("link"); !errors.Is(err, ErrChanged) {
		t.Errorf("a link is opened: %v", err)
	}
	f, err := d.Open("file")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

// TestFsck has erofs-utils check an image, and take it apart.
func TestFsck(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Erofs)
	dir := realTree(t)
	image, out := makeImage(t, dir), filepath.Join(t.TempDir(), "out")
	args := []string{"--extract=" + out}
	if os.Geteuid() == 0 {
		args = append(args, "--preserve")
	}
	for _, c := range []*exec.Cmd{exec.CommandContext(t.Context(), "fsck.erofs", append(args, image)...), exec.CommandContext(t.Context(), "dump.erofs", "-s", "-S", image)} {
		text, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", c.Args, err, text)
		}
		if strings.Contains(string(text), "rror") {
			t.Errorf("%v:\n%s", c.Args, text)
		}
	}
	want, got := survey(t, dir, false), survey(t, out, false)
	for _, m := range []map[string]facts{want, got} {
		for name, f := range m {
			f.Modified = time.Unix(f.Modified.Unix(), 0) // the tool sets whole seconds
			if f.Mode&(fs.ModeSymlink) != 0 || f.Mode.IsDir() {
				f.Modified = time.Time{} // and none of links, and of directories before it fills them
			}
			f.Mode &^= fs.ModeSetuid | fs.ModeSetgid // it sets the owner last
			m[name] = f
		}
	}
	compareTrees(t, want, got)
}

// TestMount has the kernel mount an image.
func TestMount(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Root, testcap.Loop, testcap.MountErofs)
	dir, target := realTree(t), t.TempDir()
	text, err := exec.CommandContext(t.Context(), "mount", "-t", "erofs", "-o", "loop,ro,nodev", makeImage(t, dir), target).CombinedOutput()
	if err != nil {
		t.Fatalf("mounting: %v\n%s", err, text)
	}
	t.Cleanup(func() { testcap.Unmount(t, target) })
	compareTrees(t, survey(t, dir, true), survey(t, target, true))
}

// TestDirXattrs exchanges what is in the way to a file: attributes are those of files below the directory that was opened,
// or none.
func TestDirXattrs(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	put := func(name, value string) {
		t.Helper()
		path := filepath.Join(base, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
		err := unix.Setxattr(path, "user.from", []byte(value), 0)
		if errors.Is(err, unix.ENOTSUP) {
			t.Skip("the directory for tests has no attributes")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("dir/file", "inside")
	put("dir/sub/file", "inside")
	put("outside/file", "outside")
	d, err := OpenDir(filepath.Join(base, "dir"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }() // it was only read
	want := []Xattr{{"user.from", []byte("inside")}}
	for _, name := range []string{"file", "sub/file"} {
		if got, err := d.Xattrs(name); err != nil || !cmp.Equal(got, want) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
	in := func(name string) string { return filepath.Join(base, "dir", name) }
	err = errors.Join(os.Symlink("file", in("link")), os.Rename(in("sub"), in("was")), os.Symlink(filepath.Join(base, "outside"), in("sub")))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := d.Xattrs("link"); err != nil || len(got) != 0 {
		t.Errorf("a symbolic link has what it leads to: %v, %v", got, err)
	}
	if got, err := d.Xattrs("sub/file"); err == nil {
		t.Errorf("a file outside of the directory: %v", got)
	}
	// Another directory has the name of the one that is open.
	if err := errors.Join(os.Rename(filepath.Join(base, "dir"), filepath.Join(base, "was")), os.Rename(filepath.Join(base, "outside"), filepath.Join(base, "dir"))); err != nil {
		t.Fatal(err)
	}
	if got, err := d.Xattrs("file"); err != nil || !cmp.Equal(got, want) {
		t.Errorf("in another directory's place: %v, %v", got, err)
	}
}
