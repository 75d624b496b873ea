// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// must returns a value that cannot fail to be made.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// tarOf is a layer with one file.
func tarOf(content string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "file", Size: int64(len(content)), Mode: 0o644})
	if err != nil {
		panic(err)
	}
	_ = must(io.WriteString(w, content))
	_ = w.Close() // to memory
	return b.Bytes()
}

func gzipLayer(content string) v1.Layer {
	return must(tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(tarOf(content))), nil }))
}

// testImage is an image with two layers whose configuration names everything.
func testImage(content string, platform v1.Platform) v1.Image {
	img := must(mutate.AppendLayers(empty.Image, gzipLayer(content+" base"), gzipLayer(content+" top")))
	c := must(img.ConfigFile()).DeepCopy()
	c.OS, c.Architecture = platform.OS, platform.Architecture
	c.Config = v1.Config{
		Entrypoint: []string{"/app"}, Cmd: []string{"--" + content}, Env: []string{"A=b"}, User: "1:2", WorkingDir: "/w", StopSignal: "SIGINT",
		Volumes: map[string]struct{}{"/v2": {}, "/v1": {}}, ExposedPorts: map[string]struct{}{"81/udp": {}, "80/tcp": {}},
	}
	return must(mutate.ConfigFile(img, c))
}

var (
	ours   = v1.Platform{OS: "linux", Architecture: "amd64"}
	theirs = v1.Platform{OS: "linux", Architecture: "arm64"}
)

func testConfig(content string) Config {
	return Config{
		Entrypoint: []string{"/app"}, Cmd: []string{"--" + content}, Env: []string{"A=b"}, User: "1:2", WorkingDir: "/w", StopSignal: "SIGINT",
		Volumes: []string{"/v1", "/v2"}, ExposedPorts: []string{"80/tcp", "81/udp"},
	}
}

// check opens an image and compares everything with the original.
func check(t *testing.T, ref string, o Options, content string, want v1.Image) {
	t.Helper()
	img, err := Open(t.Context(), ref, o)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := img.Digest(), must(want.Digest()).String(); got != want && !strings.HasPrefix(ref, "docker-archive:") {
		t.Errorf("digest is %s, want %s", got, want)
	}
	if diff := cmp.Diff(testConfig(content), img.Config()); diff != "" {
		t.Errorf("configuration differs (-want +got):\n%s", diff)
	}
	layers := must(want.Layers())
	if len(img.Layers()) != len(layers) {
		t.Fatalf("it has %d layers, want %d", len(img.Layers()), len(layers))
	}
	for i, l := range img.Layers() {
		if want := must(layers[i].DiffID()).String(); l.DiffID() != want {
			t.Errorf("layer %d: DiffID is %s, want %s", i, l.DiffID(), want)
		}
		got, err := content1(t, l)
		if err != nil {
			t.Errorf("layer %d: %v", i, err)
		}
		if want := tarOf(content + []string{" base", " top"}[i]); !bytes.Equal(got, want) {
			t.Errorf("layer %d: content differs", i)
		}
	}
}

// content1 reads a layer to its end.
func content1(t *testing.T, l *Layer) ([]byte, error) {
	t.Helper()
	r, err := l.Uncompressed(t.Context())
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// layoutDir writes images into an OCI layout, each under its tag.
func layoutDir(t *testing.T, images map[string]mutate.Appendable) string {
	t.Helper()
	dir := t.TempDir()
	p := must(layout.Write(dir, empty.Index))
	for tag, a := range images {
		option := layout.WithAnnotations(map[string]string{annotationRef: tag})
		var err error
		switch a := a.(type) {
		case v1.Image:
			err = p.AppendImage(a, option)
		case v1.ImageIndex:
			err = p.AppendIndex(a, option)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// pack writes a directory into a tar file.
func pack(t *testing.T, dir string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "archive.tar")
	f := must(os.Create(file))
	w := tar.NewWriter(f)
	err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), f.Close())
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func multiPlatform() (v1.ImageIndex, v1.Image) {
	img := testImage("ours", ours)
	return mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: testImage("theirs", theirs), Descriptor: v1.Descriptor{Platform: &theirs}},
		mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &ours}},
		mutate.IndexAddendum{Add: testImage("attestation", ours), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}},
	), img
}

func TestLayouts(t *testing.T) {
	t.Parallel()
	one, two := testImage("one", ours), testImage("two", ours)
	index, inIndex := multiPlatform()
	dir := layoutDir(t, map[string]mutate.Appendable{"one": one, "two": two, "many": index})
	single := layoutDir(t, map[string]mutate.Appendable{"only": one})
	file := pack(t, dir)
	colon := filepath.Join(t.TempDir(), "with:colon")
	err := os.Rename(single, colon)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		ref, content string
		want         v1.Image
	}{
		{"oci:" + dir + ":one", "one", one},
		{"oci:" + dir + ":two", "two", two},
		{"oci:" + dir + ":many", "ours", inIndex},
		{"oci:" + dir + ":" + must(two.Digest()).String(), "two", two},
		{"oci:" + colon, "one", one},
		{"oci:" + colon + ":only", "one", one},
		{"oci-archive:" + file + ":two", "two", two},
		{"oci-archive:" + file + ":many", "ours", inIndex},
	}
	for _, tt := range tests {
		t.Run(strings.ReplaceAll(tt.ref, "/", "-"), func(t *testing.T) {
			t.Parallel()
			check(t, tt.ref, Options{}, tt.content, tt.want)
		})
	}
}

func TestDockerArchives(t *testing.T) {
	t.Parallel()
	one, two := testImage("one", ours), testImage("two", ours)
	both := filepath.Join(t.TempDir(), "both.tar")
	err := tarball.MultiWriteToFile(both, map[name.Tag]v1.Image{must(name.NewTag("app:one")): one, must(name.NewTag("registry.test/app:two")): two})
	if err != nil {
		t.Fatal(err)
	}
	single := filepath.Join(t.TempDir(), "single.tar")
	err = tarball.WriteToFile(single, must(name.NewTag("app:one")), one)
	if err != nil {
		t.Fatal(err)
	}
	for ref, content := range map[string]string{
		"docker-archive:" + both + ":app:one":                         "one",
		"docker-archive:" + both + ":index.docker.io/library/app:one": "one",
		"docker-archive:" + both + ":registry.test/app:two":           "two",
		"docker-archive:" + single:                                    "one",
	} {
		check(t, ref, Options{}, content, map[string]v1.Image{"one": one, "two": two}[content])
	}
	img, err := Open(t.Context(), "docker-archive:"+single, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if want := must(one.ConfigName()).String(); img.Digest() != want {
		t.Errorf("digest is %s, want the image ID %s", img.Digest(), want)
	}
}

// TestCompressions opens layers of every encoding, one of them with a false media type.
func TestCompressions(t *testing.T) {
	t.Parallel()
	raw := tarOf("content")
	z := must(zstd.NewWriter(nil)).EncodeAll(raw, nil)
	layers := map[string]v1.Layer{
		"gzip":          gzipLayer("content"),
		"zstd":          static.NewLayer(z, types.OCILayerZStd),
		"none":          static.NewLayer(raw, types.OCIUncompressedLayer),
		"zstd as gzip":  static.NewLayer(z, types.OCILayer),
		"none as layer": static.NewLayer(raw, types.DockerLayer),
	}
	for name, l := range layers {
		img := must(mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), l))
		c := must(img.ConfigFile()).DeepCopy()
		c.OS, c.Architecture = ours.OS, ours.Architecture
		img = must(mutate.ConfigFile(img, c))
		opened, err := Open(t.Context(), "oci:"+layoutDir(t, map[string]mutate.Appendable{"x": img}), Options{})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := content1(t, opened.Layers()[0])
		if err != nil || !bytes.Equal(got, raw) {
			t.Errorf("%s: content differs, error is %v", name, err)
		}
	}
}

func TestReferences(t *testing.T) {
	t.Parallel()
	dir := layoutDir(t, map[string]mutate.Appendable{"one": testImage("one", ours), "two": testImage("two", ours)})
	foreign := layoutDir(t, map[string]mutate.Appendable{"arm": testImage("arm", theirs)})
	index := layoutDir(t, map[string]mutate.Appendable{"arm": mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: testImage("theirs", theirs), Descriptor: v1.Descriptor{Platform: &theirs}},
		mutate.IndexAddendum{Add: testImage("theirs", theirs), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "windows", Architecture: "amd64"}}})})
	tests := []struct {
		ref     string
		wrapped error
		message string
	}{
		{"oci:", ErrReference, "path is missing"},
		{"oci:/nowhere:tag", os.ErrNotExist, "/nowhere"},
		{"oci:" + dir, ErrNotFound, `2 images match (add one of the tags: "`},
		{"oci:" + dir + ":three", ErrNotFound, `no image is tagged "three" (add one of the tags: "`},
		{"oci:" + foreign, ErrNotFound, `expected platform linux/amd64, got "linux"/"arm64"`},
		{"oci:" + index, ErrNotFound, `it is not built for linux/amd64 (it is for: "linux/arm64", "windows/amd64")`},
		{"oci:" + t.TempDir(), ErrMalformed, "not an OCI layout"},
		{"oci-archive:" + dir, ErrMalformed, "not a regular file"},
		{"docker-archive:" + pack(t, dir), ErrMalformed, "not a Docker archive"},
		{"UPPER/case", ErrReference, "UPPER/case"},
		{"registry.test/app", nil, "no directory for pulled images"},
	}
	for _, tt := range tests {
		_, err := Open(t.Context(), tt.ref, Options{})
		if err == nil || tt.wrapped != nil && !errors.Is(err, tt.wrapped) {
			t.Errorf("%s: error is %v, want one that wraps %v", tt.ref, err, tt.wrapped)
			continue
		}
		if !strings.Contains(err.Error(), tt.message) || !strings.Contains(err.Error(), fmt.Sprintf("%q", tt.ref)) {
			t.Errorf("%s: error %q does not contain %q and the reference", tt.ref, err, tt.message)
		}
	}
}
