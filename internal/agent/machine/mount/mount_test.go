// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

func tmpfs(options ...Option) FS {
	return FS{Type: "tmpfs", Source: "scratch", Options: options, Attr: unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID}
}

func TestMountAndUnmount(t *testing.T) {
	testcap.Require(t, testcap.Root)
	target := filepath.Join(t.TempDir(), "a", "b")
	err := tmpfs(Option{"size", "1m"}, Option{"mode", "0700"}).At(target)
	if err != nil {
		t.Fatal(err)
	}
	defer Detach(target) //nolint:errcheck // only of use when the test failed
	var st unix.Statfs_t
	if err := unix.Statfs(target, &st); err != nil {
		t.Fatal(err)
	}
	if st.Type != unix.TMPFS_MAGIC || st.Blocks*uint64(st.Bsize) != 1<<20 || st.Flags&unix.MS_NODEV == 0 {
		t.Errorf("mounted type %#x, %d bytes, flags %#x", st.Type, st.Blocks*uint64(st.Bsize), st.Flags)
	}
	f, err := os.Create(filepath.Join(target, "x"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Unmount(target); !errors.Is(err, unix.EBUSY) {
		t.Errorf("unmounting with an open file: %v, want EBUSY", err)
	}
	_ = f.Close()
	if err := Unmount(target); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(target, "x")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

func TestMountRefuses(t *testing.T) {
	testcap.Require(t, testcap.Root)
	dir := t.TempDir()
	outside := t.TempDir()
	if err := os.Symlink(outside, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(outside, "sub"), 0o700); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name, target string
		fs           FS
		want         string
	}{
		{"relative target", "a", tmpfs(), "absolute"},
		{"root", "/", tmpfs(), "absolute"},
		{"dots", dir + "/../x", tmpfs(), "absolute"},
		{"trailing slash", dir + "/x/", tmpfs(), "absolute"},
		{"symbolic link", filepath.Join(dir, "link"), tmpfs(), "opening the target"},
		{"through a symbolic link", filepath.Join(dir, "link", "sub"), tmpfs(), "opening the target"},
		{"file", filepath.Join(dir, "file"), tmpfs(), "not a directory"},
		{"unknown type", filepath.Join(dir, "x"), FS{Type: "nofs"}, "opening the filesystem type"},
		{"unknown option", filepath.Join(dir, "x"), tmpfs(Option{"colour", "red"}), "colour"},
		{"bad value", filepath.Join(dir, "x"), tmpfs(Option{"size", "much"}), "size"},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			err := tc.fs.At(tc.target)
			if err == nil {
				_ = Detach(tc.target)
				t.Fatal("mounted")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error is %q, want it to name %q", err, tc.want)
			}
		})
	}
}
