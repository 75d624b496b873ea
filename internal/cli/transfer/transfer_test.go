// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"archive/tar"
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

func TestThereAndBack(t *testing.T) {
	t.Parallel()
	from, to := t.TempDir(), t.TempDir()
	must(t, os.MkdirAll(filepath.Join(from, "site", "a"), 0o700))
	must(t, os.WriteFile(filepath.Join(from, "site", "a", "x"), []byte("content"), 0o640))
	must(t, os.WriteFile(filepath.Join(from, "site", "empty"), nil, 0o700))
	var b bytes.Buffer
	must(t, Pack(&b, filepath.Join(from, "site")))
	must(t, Unpack(to, "site", "other", &b))
	got, err := os.ReadFile(filepath.Join(to, "other", "a", "x"))
	info, statErr := os.Stat(filepath.Join(to, "other", "empty"))
	if err != nil || statErr != nil || string(got) != "content" || info.Mode().Perm() != 0o700 {
		t.Errorf("it came back as %q (%v, %v)", got, err, statErr)
	}
	if err := Pack(&b, filepath.Join(from, "missing")); err == nil {
		t.Error("what is not there is packed")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A container sends what it likes. Nothing of it lands elsewhere.
func TestHostileStreams(t *testing.T) {
	t.Parallel()
	for name, entries := range map[string][]tar.Header{
		"upwards":             {{Name: "x/../../y", Typeflag: tar.TypeReg}},
		"absolute":            {{Name: "/etc/x", Typeflag: tar.TypeReg}},
		"another name":        {{Name: "y", Typeflag: tar.TypeReg}},
		"a beginning":         {{Name: "xy", Typeflag: tar.TypeReg}},
		"a symbolic link":     {{Name: "x", Typeflag: tar.TypeSymlink, Linkname: "/"}},
		"a hard link":         {{Name: "x", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"a device":            {{Name: "x", Typeflag: tar.TypeChar}},
		"through a link here": {{Name: "x/link/file", Typeflag: tar.TypeReg}},
		"nothing":             {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outside, dir := t.TempDir(), t.TempDir()
			must(t, os.Mkdir(filepath.Join(dir, "x"), 0o700))
			must(t, os.Symlink(outside, filepath.Join(dir, "x", "link")))
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for i := range entries {
				must(t, w.WriteHeader(&entries[i]))
			}
			must(t, w.Close())
			if err := Unpack(dir, "x", "", &b); err == nil {
				t.Error("it is taken")
			}
			left, err := os.ReadDir(outside)
			if err != nil || len(left) > 0 {
				t.Errorf("outside: %v (%v)", left, err)
			}
		})
	}
}

func TestAFileReplacesALink(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	must(t, os.Symlink(filepath.Join(outside, "target"), filepath.Join(dir, "x")))
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	must(t, w.WriteHeader(&tar.Header{Name: "x", Typeflag: tar.TypeReg, Mode: 0o4777}))
	must(t, w.Close())
	must(t, Unpack(dir, "x", "", &b))
	info, err := os.Lstat(filepath.Join(dir, "x"))
	if err != nil || !info.Mode().IsRegular() || info.Mode()&os.ModeSetuid != 0 {
		t.Errorf("%v (%v)", info, err)
	}
}
