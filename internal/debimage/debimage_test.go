// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/testcap"
)

func imagePath(t *testing.T, name string) string {
	t.Helper()
	testcap.Require(t, testcap.Images)
	return filepath.Join(testcap.Dir(), "images", name+".tar")
}

// TestTree compares two listings of the same directory: ours, and that of the busybox in the image.
func TestTree(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Images, testcap.Root, testcap.Umoci)
	tmp := t.TempDir()
	want, err := ExpectedTree(t.Context(), imagePath(t, "layers7"), tmp)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"./setuid 4755 0 0 f ", "./comes-back 0644 ", "./hidden 0751 5 6 d -", "./links/absolute 0777 0 0 l /tree/plain", "./null 0666 0 0 c 1:3",
		"./swap-to-dir 0755 0 0 d -", "./swap-to-file 0644 0 0 f ", `"./two words" 0644 `, "./owned 0640 70000 4000000000 f ",
	} {
		if !strings.Contains(want, line) {
			t.Errorf("the listing has no line that begins with %q", line)
		}
	}
	for _, gone := range []string{"./links/b ", "./many/13 ", "./gone/one ", "./hidden/sub/two ", "./mixed/sub/two "} {
		if strings.Contains(want, gone) {
			t.Errorf("the listing has %q, which a layer removed", gone)
		}
	}
	root := filepath.Join(tmp, "bundle", "rootfs")
	command := TreeCommand("/" + TreeRoot)
	out, err := exec.CommandContext(t.Context(), "chroot", append([]string{root}, command...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	got, err := ParseTree(out)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("listings differ (-want +got):\n%s", diff)
	}
	_, err = ParseTree(out[:len(out)/2])
	if err == nil {
		t.Error("half a listing was accepted")
	}
}

// TestImages opens each image as the product does and converts its layers.
func TestImages(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Images)
	index, err := ReadIndex(filepath.Join(testcap.Dir(), "images"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := layer.OpenCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	layers := map[string]int{"busybox": 2, "redis": 3, "nginx": 3, "python": 3, "openssl": 3, "sidecar": 3, "layers7": 7}
	for name, b := range index.Images {
		img, err := image.Open(t.Context(), "oci-archive:"+imagePath(t, name), image.Options{})
		if err != nil {
			t.Error(err)
			continue
		}
		if img.Digest() != b.Digest {
			t.Errorf("%s: digest is %s, the index says %s", name, img.Digest(), b.Digest)
		}
		if got := len(img.Layers()); got != layers[name] {
			t.Errorf("%s: it has %d layers, want %d", name, got, layers[name])
		}
		_, err = cache.GetAll(t.Context(), layer.Sources(img.Layers()), nil)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSameBytes builds images again from the cached packages and expects the same archives. It needs no network.
func TestSameBytes(t *testing.T) {
	t.Parallel()
	testcap.Require(t, testcap.Images)
	dir := filepath.Join(testcap.Dir(), "images")
	index, err := ReadIndex(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range recipes() {
		if r.name != "layers7" && r.name != "redis" {
			continue
		}
		a := &apt{dir: filepath.Join(dir, "apt")}
		layers, _, err := r.layersOf(t.Context(), a, cachedClosure(index.Images[r.name].Packages, r), nil)
		if err != nil {
			t.Fatalf("%s: %v", r.name, err)
		}
		b, digest, err := archive(r.name, r.config, layers)
		if err != nil {
			t.Fatal(err)
		}
		if want := index.Images[r.name]; digest.String() != want.Digest || sha256Hex(b) != want.SHA256 {
			t.Errorf("%s: digest is %s, the index says %s", r.name, digest, want.Digest)
		}
	}
}

func TestUnknownName(t *testing.T) {
	t.Parallel()
	_, err := Build(t.Context(), Options{Out: t.TempDir(), Only: []string{"emacs"}})
	if err == nil || !strings.Contains(err.Error(), `"emacs" is unknown, expected any of busybox`) {
		t.Errorf("error is %v, want one that names the images", err)
	}
}

func TestParseURIs(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0", 64)
	tests := []struct {
		name, out string
		want      []deb
	}{
		{"two", "'http://m/b_1.deb' b_1_amd64.deb 12 SHA256:" + sum + "\nnoise\n'http://m/a' a_1%3a2_all.deb 3 SHA256:" + sum + "\n",
			[]deb{{"a", "a_1%3a2_all.deb", 3, sum}, {"b", "b_1_amd64.deb", 12, sum}}},
		{"weak hash", "'http://m/b_1.deb' b_1_amd64.deb 12 MD5Sum:" + sum, nil},
		{"no hash", "'http://m/b_1.deb' b_1_amd64.deb 12", nil},
		{"size", "'http://m/b_1.deb' b_1_amd64.deb x SHA256:" + sum, nil},
		{"path", "'http://m/b_1.deb' ../b_1_amd64.deb 12 SHA256:" + sum, nil},
		{"nothing", "", nil},
	}
	for _, tt := range tests {
		got, err := parseURIs([]byte(tt.out))
		if (err == nil) != (tt.want != nil) {
			t.Errorf("%s: error is %v", tt.name, err)
		}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(deb{})); diff != "" {
			t.Errorf("%s: differs (-want +got):\n%s", tt.name, diff)
		}
	}
}

// TestLinkOrder checks that a hard link that sorts before its target still follows it.
func TestLinkOrder(t *testing.T) {
	t.Parallel()
	s := newFileset()
	s.file("z", 0o600, "content")
	s.put("a", tar.Header{Typeflag: tar.TypeLink, Linkname: "z"}, nil)
	s.put("m", tar.Header{Typeflag: tar.TypeLink, Linkname: "z"}, nil)
	b, err := s.tar()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for r := tar.NewReader(bytes.NewReader(b)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, strings.TrimSpace(h.Name+" "+h.Linkname))
	}
	if diff := cmp.Diff([]string{"a", "m a", "z a"}, got); diff != "" {
		t.Errorf("entries differ (-want +got):\n%s", diff)
	}
}

func TestMissingLibrary(t *testing.T) {
	t.Parallel()
	program, err := os.ReadFile("/bin/sh")
	if err != nil || !bytes.HasPrefix(program, []byte("\x7fELF")) {
		t.Skip("/bin/sh is no ELF program")
	}
	s := newFileset()
	s.file("bin/sh", 0o755, string(program))
	err = checkLibraries([]*fileset{s})
	if err == nil || !strings.Contains(err.Error(), "bin/sh needs the library libc.so.6") {
		t.Errorf("error is %v, want one that names the library", err)
	}
}

// cachedClosure stands in for apt's resolver: it returns the packages that an image was built from.
func cachedClosure(files []string, r recipe) func(context.Context, []string, []string) ([]deb, error) {
	return func(_ context.Context, packages, _ []string) ([]deb, error) {
		var debs []deb
		for _, f := range files {
			name, _, _ := strings.Cut(f, "_")
			d := deb{Name: name, File: f}
			base := slices.Contains([]string{"libc6", "libgcc-s1", "libssl3", "zlib1g"}, name)
			if slices.Equal(packages, r.packages) || base {
				debs = append(debs, d)
			}
		}
		return debs, nil
	}
}
