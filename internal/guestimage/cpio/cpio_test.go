// SPDX-License-Identifier: Apache-2.0

package cpio

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func small() []Entry {
	return []Entry{
		File("init", 0o555, []byte("#!/bin/true\n")),
		Dir("dev", 0o755),
		Char("dev/console", 0o600, 5, 1),
		Dir("etc", 0o755),
		File("etc/empty", 0o444, nil),
		{Name: "etc/link", Mode: TypeSymlink | 0o777, Data: []byte("empty")},
	}
}

func write(t interface{ Fatal(...any) }, entries []Entry) []byte {
	var b bytes.Buffer
	if err := Write(&b, entries); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGolden compares with an archive whose listing by GNU cpio 2.13 was checked when it was made; see testdata/small.txt.
func TestGolden(t *testing.T) {
	t.Parallel()
	got := write(t, small())
	path := filepath.Join("testdata", "small.cpio")
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("archive differs from %s:\n%q", path, got)
	}
}

func TestOrderOfEntriesDoesNotMatter(t *testing.T) {
	t.Parallel()
	reversed := small()
	slices.Reverse(reversed)
	if !bytes.Equal(write(t, small()), write(t, reversed)) {
		t.Error("archive depends on the order of its entries")
	}
}

func TestWriteRefuses(t *testing.T) {
	t.Parallel()
	for name, entries := range map[string][]Entry{
		"missing parent":        {File("a/b", 0o444, nil)},
		"parent is a file":      {File("a", 0o444, nil), File("a/b", 0o444, nil)},
		"twice":                 {File("a", 0o444, nil), Dir("a", 0o755)},
		"absolute":              {File("/a", 0o444, nil)},
		"dot dot":               {File("../a", 0o444, nil)},
		"not clean":             {Dir("a", 0o755), File("a//b", 0o444, nil)},
		"empty name":            {File("", 0o444, nil)},
		"zero byte":             {File("a\x00b", 0o444, nil)},
		"trailer":               {File(trailer, 0o444, nil)},
		"directory with data":   {{Name: "a", Mode: TypeDir | 0o755, Data: []byte("x")}},
		"file with device":      {{Name: "a", Mode: TypeFile, Major: 1}},
		"no type":               {{Name: "a", Mode: 0o644}},
		"block device":          {{Name: "a", Mode: 0o060600}},
		"mode beyond its field": {{Name: "a", Mode: TypeFile | 1<<20}},
		"name too long":         {File(strings.Repeat("a", maxName+1), 0o444, nil)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := Write(&bytes.Buffer{}, entries); !errors.Is(err, ErrFormat) {
				t.Errorf("got %v, want ErrFormat", err)
			}
		})
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	good := write(t, small())
	edit := func(f func([]byte) []byte) []byte { return f(bytes.Clone(good)) }
	for name, b := range map[string][]byte{
		"empty":             nil,
		"cut":               good[:len(good)-8],
		"no trailer":        good[:len(good)-124],
		"bytes after":       append(bytes.Clone(good), 0, 0, 0, 0),
		"other magic":       edit(func(b []byte) []byte { b[5] = '2'; return b }),
		"not hexadecimal":   edit(func(b []byte) []byte { b[6] = 'g'; return b }),
		"an owner":          edit(func(b []byte) []byte { b[6+8*3-1] = '1'; return b }),
		"a time":            edit(func(b []byte) []byte { b[6+8*6-1] = '1'; return b }),
		"other inode":       edit(func(b []byte) []byte { b[6+7] = '9'; return b }),
		"padding":           edit(func(b []byte) []byte { b[headerSize+4] = 1; return b }),
		"size beyond file":  edit(func(b []byte) []byte { copy(b[6+8*6:], "FFFFFFFF"); return b }),
		"name beyond limit": edit(func(b []byte) []byte { copy(b[6+8*11:], "FFFFFFFF"); return b }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := Read(b); !errors.Is(err, ErrFormat) {
				t.Errorf("got %v, want ErrFormat", err)
			}
		})
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		names := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z0-9.]{1,12}z`), 0, 12, rapid.ID[string]).Draw(r, "names")
		want := []Entry{Dir("d", 0o755)}
		for _, n := range names {
			want = append(want, File("d/"+n, rapid.Uint32Range(0, 0o7777).Draw(r, "mode"),
				rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(r, "data")))
		}
		got, err := Read(write(r, want))
		if err != nil {
			r.Fatal(err)
		}
		slices.SortFunc(want, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
		if diff := cmp.Diff(want, got, cmp.Comparer(bytes.Equal)); diff != "" {
			r.Fatal(diff)
		}
	})
}

func FuzzRead(f *testing.F) {
	var b bytes.Buffer
	if err := Write(&b, small()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(b.Bytes()[:headerSize])
	f.Fuzz(func(t *testing.T, b []byte) {
		entries, err := Read(b)
		if err == nil && !bytes.Equal(write(t, entries), b) {
			t.Error("what was read is not what is written")
		}
	})
}
