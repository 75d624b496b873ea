// SPDX-License-Identifier: Apache-2.0

package transfer

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
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

// TestSparse takes no file of a few bytes that would become one of gigabytes here. The archive is one of GNU tar's, in the form
// that the standard library reads and does not write.
func TestSparse(t *testing.T) {
	t.Parallel()
	const size = "1099511627776"
	var b bytes.Buffer
	b.Write(block("PaxHeaders/x", tar.TypeXHeader, record("GNU.sparse.major", "1")+record("GNU.sparse.minor", "0")+
		record("GNU.sparse.name", "x")+record("GNU.sparse.realsize", size)))
	sparse := "1\n" + size + "\n0\n" // one piece: nothing, at the very end
	b.Write(block("GNUSparseFile.0/x", tar.TypeReg, sparse+strings.Repeat("\x00", 512-len(sparse))))
	b.Write(make([]byte, 1024))
	h, err := tar.NewReader(bytes.NewReader(b.Bytes())).Next()
	if err != nil || fmt.Sprint(h.Size) != size {
		t.Fatalf("the archive is not what it is meant to be: %+v, %v", h, err)
	}
	dir := t.TempDir()
	if err := Unpack(dir, "x", "", &b); err == nil || !strings.Contains(err.Error(), "sparse") {
		t.Errorf("error is %v", err)
	}
}

func record(key, value string) string {
	text := " " + key + "=" + value + "\n"
	n := len(text) + 2
	return fmt.Sprintf("%d%s", n, text)
}

// block is a header and its content, padded.
func block(name string, kind byte, content string) []byte {
	h := make([]byte, 512)
	copy(h, name)
	copy(h[100:], "0000644\x00")
	copy(h[124:], fmt.Sprintf("%011o\x00", len(content)))
	h[156] = kind
	copy(h[257:], "ustar\x0000")
	copy(h[148:], "        ")
	sum := 0
	for _, c := range h {
		sum += int(c)
	}
	copy(h[148:], fmt.Sprintf("%06o\x00 ", sum))
	h = append(h, content...)
	return append(h, make([]byte, -len(content)&511)...)
}
