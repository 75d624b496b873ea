// SPDX-License-Identifier: Apache-2.0

package wholefile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	for _, c := range []struct {
		text string
		mode fs.FileMode
	}{{"one", 0o600}, {"two, longer", 0o644}, {"", 0o600}} {
		if err := Replace(path, []byte(c.text), c.mode); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		info, errStat := os.Stat(path)
		if err != nil || errStat != nil || string(b) != c.text || info.Mode().Perm() != c.mode {
			t.Errorf("%q, %v, %v, %v; want %q, %v", b, info.Mode(), err, errStat, c.text, c.mode)
		}
	}
	if err := Replace(filepath.Join(dir, "missing", "file"), nil, 0o600); err == nil {
		t.Error("a file in a directory that is not there")
	}
	if err := Replace(dir, []byte("x"), 0o600); err == nil {
		t.Error("a directory was replaced by a file")
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 1 {
		t.Errorf("there are %d files, %v", len(left), err)
	}
}

func TestCreate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := Create(path, []byte("one"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := Create(path, []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over one that is there: %v", err)
	}
	if err := os.Symlink("elsewhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if err := Create(filepath.Join(dir, "link"), []byte("two"), 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a link to nothing: %v", err)
	}
	b, err := os.ReadFile(path)
	info, errStat := os.Stat(path)
	left, errDir := os.ReadDir(dir)
	if err != nil || errStat != nil || errDir != nil || string(b) != "one" || info.Mode().Perm() != 0o640 || len(left) != 2 {
		t.Errorf("%q, %v, %v; errors %v, %v, %v", b, info.Mode(), left, err, errStat, errDir)
	}
}
