// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with a file of testdata.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

func testBuilder(t *testing.T) *builder {
	t.Helper()
	home := t.TempDir()
	b := &builder{guest: filepath.Join(home, "guest")}
	b.Home = home
	if err := os.MkdirAll(b.guest, 0o700); err != nil {
		t.Fatal(err)
	}
	return b
}

// fakeFiles are files of an image whose content is their name and a word.
func fakeFiles(word string) map[string][]byte {
	files := map[string][]byte{}
	for _, name := range []string{FileVmlinux, FileVmlinuz, FileInitrd} {
		files[name] = []byte(name + " " + word)
	}
	return files
}

func fakeManifest(files map[string][]byte, inputs ...Input) *Manifest {
	m := &Manifest{
		Schema: Schema, Inputs: inputs, Files: map[string]File{}, CommandLines: map[string]string{},
		Kernel: Kernel{
			Package: "linux-image-test", Version: "1", Release: "1-test", SHA256: strings.Repeat("ab", 32), Pinned: true,
		},
	}
	for name, data := range files {
		sum := sha256.Sum256(data)
		m.Files[name] = File{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
	}
	for _, tee := range TEEs() {
		m.CommandLines[tee] = commandLine(tee)
	}
	return m
}

// fakeImage stores an image with the content of fakeFiles.
func fakeImage(t *testing.T, b *builder, word string, inputs ...Input) *Image {
	t.Helper()
	files := fakeFiles(word)
	img, err := b.store(fakeManifest(files, inputs...), files)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestCommandLines(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	for _, tee := range TEEs() {
		b.WriteString(tee + ": " + commandLine(tee) + "\n")
		if n := len(commandLine(tee)); n > 1024 {
			t.Errorf("command line of %s has %d bytes", tee, n)
		}
		if !strings.Contains(commandLine(tee), "cofferdam.tee="+tee) {
			t.Errorf("command line of %s does not name it", tee)
		}
	}
	golden(t, "cmdlines.golden", b.Bytes())
}

func TestBoot(t *testing.T) {
	t.Parallel()
	img := fakeImage(t, testBuilder(t), "a")
	for name, c := range map[string]struct {
		tee    string
		elf    bool
		kernel string
		fails  bool
	}{
		"simulated, unpacked": {Simulated, true, FileVmlinux, false},
		"simulated, packed":   {Simulated, false, FileVmlinuz, false},
		"snp":                 {SNP, false, FileVmlinuz, false},
		"tdx":                 {TDX, false, FileVmlinuz, false},
		"snp, unpacked":       {SNP, true, "", true},
		"tdx, unpacked":       {TDX, true, "", true},
		"unknown":             {"sgx", false, "", true},
		"none":                {"", true, "", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := img.Boot(c.tee, c.elf)
			if (err != nil) != c.fails {
				t.Fatalf("error is %v, want one: %v", err, c.fails)
			}
			if c.fails {
				return
			}
			want := Boot{filepath.Join(img.Dir(), c.kernel), filepath.Join(img.Dir(), FileInitrd), commandLine(c.tee)}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestCurrent(t *testing.T) {
	t.Parallel()
	b := testBuilder(t)
	if _, err := Current(b.Home); !errors.Is(err, ErrNoImage) {
		t.Errorf("without an image: %v, want ErrNoImage", err)
	}
	for _, word := range []string{"a", "b", "a"} {
		img := fakeImage(t, b, word)
		if err := b.setCurrent(img.Dir()); err != nil {
			t.Fatal(err)
		}
		got, err := Current(b.Home)
		if err != nil {
			t.Fatal(err)
		}
		if got.Dir() != img.Dir() || got.Digest() != img.Digest() {
			t.Errorf("current is %s, want %s", got.Dir(), img.Dir())
		}
		if d := img.Digest(); filepath.Base(img.Dir()) != hex.EncodeToString(d[:]) {
			t.Errorf("image %x lies in %s", d, img.Dir())
		}
	}
}

func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		damage         func(dir string) error
		atOpen, verify bool
	}{
		"none": {func(string) error { return nil }, false, false},
		"one bit": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, FileInitrd), []byte("initrd.cpio b"), 0o600)
		}, false, true},
		"truncated": {func(dir string) error { return os.Truncate(filepath.Join(dir, FileVmlinux), 1) }, true, true},
		"gone":      {func(dir string) error { return os.Remove(filepath.Join(dir, FileVmlinuz)) }, true, true},
		"no list":   {func(dir string) error { return os.Remove(filepath.Join(dir, fileManifest)) }, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := fakeImage(t, testBuilder(t), "a")
			if err := c.damage(img.Dir()); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(img.Dir()); (err != nil) != c.atOpen {
				t.Errorf("Open: %v, want an error: %v", err, c.atOpen)
			}
			if err := img.Verify(context.Background()); (err != nil) != c.verify {
				t.Errorf("Verify: %v, want an error: %v", err, c.verify)
			}
		})
	}
}

func TestParseManifestRefuses(t *testing.T) {
	t.Parallel()
	good, err := fakeManifest(fakeFiles("a")).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseManifest(good); err != nil {
		t.Fatal(err)
	}
	replace := func(old, new string) []byte {
		b := bytes.Replace(good, []byte(old), []byte(new), 1)
		if bytes.Equal(b, good) {
			t.Fatalf("%q is not in the manifest", old)
		}
		return b
	}
	for name, b := range map[string][]byte{
		"empty":            nil,
		"null":             []byte("null"),
		"other schema":     replace(Schema, "cofferdam.dev/guestimage/v2"),
		"unknown field":    replace(`"kernel":`, `"extra": 1, "kernel":`),
		"something after":  append(bytes.Clone(good), "{}"...),
		"file renamed":     replace(`"vmlinux"`, `"../vmlinux"`),
		"file too many":    replace(`"vmlinux"`, `"x": {"sha256": "", "size": 1}, "vmlinux"`),
		"size of nothing":  replace(`"size": 9`, `"size": 0`),
		"short digest":     replace(strings.Repeat("ab", 32), "abab"),
		"digest not hex":   replace(strings.Repeat("ab", 32), strings.Repeat("xy", 32)),
		"TEE without line": replace(`"tdx":`, `"sgx":`),
		"immense":          append(bytes.Repeat([]byte(" "), maxManifest), good...),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := ParseManifest(b); !errors.Is(err, ErrManifest) {
				t.Errorf("got %v, want ErrManifest", err)
			}
		})
	}
}

func FuzzParseManifest(f *testing.F) {
	good, err := fakeManifest(fakeFiles("a")).Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseManifest(b)
		if err != nil {
			return
		}
		again, err := m.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseManifest(again); err != nil {
			t.Errorf("own form is refused: %v", err)
		}
	})
}
