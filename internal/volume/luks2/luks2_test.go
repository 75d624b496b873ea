// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// quick is what key slots of tests cost.
var quick = KDF{Type: PBKDF2, Hash: "sha256", Iterations: 1000}

const (
	testOffset = 2 << 20
	testData   = 1 << 20
	testSize   = testOffset + testData
)

// testKey returns a key of a size that is the same in each run.
func testKey(t testing.TB, size int) VolumeKey {
	t.Helper()
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i*7 + size)
	}
	k, err := NewVolumeKey(b)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// testFile returns a file of a size.
func testFile(t testing.TB, size int64) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "volume"))
	if err == nil {
		t.Cleanup(func() { _ = f.Close() })
		err = f.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// volume makes a volume with a key of 64 bytes and two slots, "one" and "two".
func volume(t testing.TB, change func(o *FormatOptions)) (*os.File, *Header, VolumeKey) {
	t.Helper()
	f, key := testFile(t, testSize), testKey(t, 64)
	o := FormatOptions{
		Label: "label", Subsystem: "subsystem", Offset: testOffset,
		Slots: []Slot{{[]byte("one"), quick}, {[]byte("two"), quick}},
	}
	if change != nil {
		change(&o)
	}
	h, err := Format(f, testSize, key, o)
	if err != nil {
		t.Fatal(err)
	}
	return f, h, key
}

func reopen(t testing.TB, f *os.File) *Header {
	t.Helper()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	h, err := Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// opensWith tells whether exactly these passphrases of all that tests use open a volume with its key.
func opensWith(t testing.TB, f *os.File, key VolumeKey, want ...string) {
	t.Helper()
	h := reopen(t, f)
	for _, p := range []string{"one", "two", "three", ""} {
		got, err := h.Unlock(f, []byte(p))
		switch wanted := contains(want, p); {
		case wanted && (err != nil || !bytes.Equal(got.Expose(), key.Expose())):
			t.Errorf("passphrase %q: %v", p, err)
		case !wanted && !errors.Is(err, ErrKey):
			t.Errorf("passphrase %q: error is %v, want one that wraps %v", p, err, ErrKey)
		}
	}
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}
