// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// edit changes a layout: a file is given by its name, or as "manifest", "config" or "layer".
type edit struct {
	name    string
	file    string
	change  func(b []byte) []byte
	wrapped error
	message string
}

func replaceAll(from, to string) func([]byte) []byte {
	return func(b []byte) []byte {
		if !bytes.Contains(b, []byte(from)) {
			panic("nothing to replace: " + from)
		}
		return bytes.ReplaceAll(b, []byte(from), []byte(to))
	}
}

func appended(s string) func([]byte) []byte {
	return func(b []byte) []byte { return append(b, s...) }
}

func flipped(b []byte) []byte {
	b[len(b)/2] ^= 1
	return b
}

// TestTamperedLayouts changes what digests protect and what they do not.
func TestTamperedLayouts(t *testing.T) {
	t.Parallel()
	edits := []edit{
		{"index is no JSON", indexFile, appended("}"), ErrMalformed, "index.json"},
		{"index is huge", indexFile, appended(strings.Repeat(" ", maxManifest)), ErrMalformed, "at most"},
		{"manifest changed", "manifest", flipped, ErrDigest, "sha256:"},
		{"manifest longer", "manifest", appended(" "), ErrMalformed, "bytes"},
		{"config changed", "config", flipped, ErrDigest, "configuration"},
		{"config gone", "config", nil, ErrMalformed, "missing"},
		{"layer longer", "layer", appended("x"), ErrMalformed, "bytes"},
		{"layer gone", "layer", nil, ErrMalformed, "missing"},
		{"layer changed", "layer", flipped, nil, "layer"},
	}
	for _, e := range edits {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			img := testImage("x", ours)
			dir := layoutDir(t, map[string]mutate.Appendable{"x": img})
			names := map[string]string{
				indexFile: indexFile, "manifest": blobName(must(img.Digest())), "config": blobName(must(img.ConfigName())),
				"layer": blobName(must(must(img.Layers())[0].Digest())),
			}
			file := filepath.Join(dir, names[e.file])
			var err error
			if e.change == nil {
				err = os.Remove(file)
			} else {
				err = os.WriteFile(file, e.change(must(os.ReadFile(file))), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			opened, err := Open(t.Context(), "oci:"+dir, Options{})
			if err == nil {
				_, err = content1(t, opened.Layers()[0])
			}
			if err == nil || e.wrapped != nil && !errors.Is(err, e.wrapped) || !strings.Contains(err.Error(), e.message) {
				t.Errorf("error is %v, want one that wraps %v and contains %q", err, e.wrapped, e.message)
			}
		})
	}
}

// rewritten writes a layout whose manifest or configuration was changed and whose digests fit again.
func rewritten(t *testing.T, changeManifest func(*v1.Manifest), changeConfig func([]byte) []byte) string {
	t.Helper()
	img := testImage("x", ours)
	dir := layoutDir(t, map[string]mutate.Appendable{"x": img})
	m := must(img.Manifest()).DeepCopy()
	if changeConfig != nil {
		b := changeConfig(must(img.RawConfigFile()))
		m.Config.Digest, m.Config.Size = put(t, dir, b)
	}
	if changeManifest != nil {
		changeManifest(m)
	}
	d := v1.Descriptor{MediaType: types.OCIManifestSchema1}
	d.Digest, d.Size = put(t, dir, must(json.Marshal(m)))
	index := must(json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{d}}))
	err := os.WriteFile(filepath.Join(dir, indexFile), index, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(t *testing.T, dir string, b []byte) (v1.Hash, int64) {
	t.Helper()
	h, n, err := v1.SHA256(bytes.NewReader(b))
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, blobName(h)), b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return h, n
}

// TestHostileManifests has digests that fit and statements that do not.
func TestHostileManifests(t *testing.T) {
	t.Parallel()
	sha512 := v1.Hash{Algorithm: "sha512", Hex: strings.Repeat("0", 128)}
	tests := []struct {
		name     string
		manifest func(*v1.Manifest)
		config   func([]byte) []byte
		message  string
	}{
		{"negative size", func(m *v1.Manifest) { m.Layers[0].Size = -1 }, nil, "size is -1"},
		{"config size lies", func(m *v1.Manifest) { m.Config.Size-- }, nil, "bytes"},
		{"config is huge", func(m *v1.Manifest) { m.Config.Size = maxConfig + 1 }, nil, "at most"},
		{"config is an artifact", func(m *v1.Manifest) { m.Config.MediaType = "application/vnd.test" }, nil, "not a container image"},
		{"layer is encrypted", func(m *v1.Manifest) { m.Layers[1].MediaType += "+encrypted" }, nil, "encrypted"},
		{"layer is no layer", func(m *v1.Manifest) { m.Layers[1].MediaType = "text/plain" }, nil, "text/plain"},
		{"other digest", func(m *v1.Manifest) { m.Layers[1].Digest = sha512 }, nil, "only sha256"},
		{"one layer less", func(m *v1.Manifest) { m.Layers = m.Layers[:1] }, nil, "names 2 layers, the manifest 1"},
		{"too many layers", func(m *v1.Manifest) {
			for len(m.Layers) <= maxLayers {
				m.Layers = append(m.Layers, m.Layers[0])
			}
		}, nil, "at most 512 layers"},
		{"config for another platform", nil, replaceAll(`"amd64"`, `"arm64"`), "expected platform"},
		{"config is no JSON", nil, appended("{"), "configuration"},
		{"DiffID of another kind", nil, replaceAll(must(must(testImage("x", ours).Layers())[0].DiffID()).String(), sha512.String()), "only sha256"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := Open(t.Context(), "oci:"+rewritten(t, tt.manifest, tt.config), Options{})
			if err == nil || !strings.Contains(err.Error(), tt.message) {
				t.Errorf("error is %v, want one that contains %q", err, tt.message)
			}
		})
	}
}

// TestNestedIndexes goes deeper than anybody needs.
func TestNestedIndexes(t *testing.T) {
	t.Parallel()
	dir := layoutDir(t, map[string]mutate.Appendable{"x": testImage("x", ours)})
	d := v1.Descriptor{MediaType: types.OCIManifestSchema1}
	d.Digest, d.Size = put(t, dir, must(testImage("x", ours).RawManifest()))
	for range maxDepth {
		b := must(json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{d}}))
		d = v1.Descriptor{MediaType: types.OCIImageIndex}
		d.Digest, d.Size = put(t, dir, b)
	}
	b := must(json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: []v1.Descriptor{d}}))
	err := os.WriteFile(filepath.Join(dir, indexFile), b, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), "oci:"+dir, Options{})
	if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), "deep") {
		t.Errorf("error is %v, want one that says how deep", err)
	}
}

// TestLayoutLinks has a blob that is a symbolic link out of the layout, and one that is a directory.
func TestLayoutLinks(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"link", "directory"} {
		img := testImage("x", ours)
		dir := layoutDir(t, map[string]mutate.Appendable{"x": img})
		blob := filepath.Join(dir, blobName(must(img.ConfigName())))
		outside := filepath.Join(t.TempDir(), "config")
		err := os.Rename(blob, outside)
		if err == nil && kind == "link" {
			err = os.Symlink(outside, blob)
		} else if err == nil {
			err = os.Mkdir(blob, 0o700)
		}
		if err != nil {
			t.Fatal(err)
		}
		_, err = Open(t.Context(), "oci:"+dir, Options{})
		if err == nil {
			t.Errorf("%s: it was followed", kind)
		}
	}
}

// archiveOf writes a tar file.
func archiveOf(t testing.TB, headers ...tar.Header) string {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range headers {
		content := h.PAXRecords["content"]
		h.PAXRecords = nil
		h.Size = int64(len(content))
		err := w.WriteHeader(&h)
		if err == nil {
			_, err = io.WriteString(w, content)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	_ = w.Close() // to memory
	file := filepath.Join(t.TempDir(), "archive.tar")
	err := os.WriteFile(file, b.Bytes(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func file(name, content string) tar.Header {
	return tar.Header{Typeflag: tar.TypeReg, Name: name, PAXRecords: map[string]string{"content": content}}
}

func TestHostileArchives(t *testing.T) {
	t.Parallel()
	truncated := pack(t, layoutDir(t, map[string]mutate.Appendable{"x": testImage("x", ours)}))
	err := os.Truncate(truncated, 1000)
	if err != nil {
		t.Fatal(err)
	}
	compressed := filepath.Join(t.TempDir(), "archive.tar.gz")
	err = os.WriteFile(compressed, []byte("\x1f\x8b\x08"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, file, message string }{
		{"path leads out", archiveOf(t, file("../index.json", "{}")), "leads out"},
		{"absolute path", archiveOf(t, file("/index.json", "{}")), "leads out"},
		{"same name twice", archiveOf(t, file("index.json", "{}"), file("./index.json", "{}")), "twice"},
		{"long name", archiveOf(t, file(strings.Repeat("n", maxNameLength+1), "")), "longer"},
		{"link out", archiveOf(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "index.json", Linkname: "../../etc/passwd"}), "not an OCI layout"},
		{"link to itself", archiveOf(t, tar.Header{Typeflag: tar.TypeSymlink, Name: "index.json", Linkname: "index.json"}), "not an OCI layout"},
		{"index is a directory", archiveOf(t, tar.Header{Typeflag: tar.TypeDir, Name: "index.json"}), "not an OCI layout"},
		{"empty index", archiveOf(t, file("index.json", "{}")), "no image in it"},
		{"truncated", truncated, "malformed"},
		{"compressed", compressed, "decompress it first"},
		{"empty", archiveOf(t), "not an OCI layout"},
	}
	for _, tt := range tests {
		_, err := Open(t.Context(), "oci-archive:"+tt.file, Options{})
		if err == nil || !strings.Contains(err.Error(), tt.message) {
			t.Errorf("%s: error is %v, want one that contains %q", tt.name, err, tt.message)
		}
	}
}

// TestOldDockerLinks opens an archive in which a repeated layer is a symbolic link, as old versions of Docker write it.
func TestOldDockerLinks(t *testing.T) {
	t.Parallel()
	layer := string(tarOf("content"))
	h, _, err := v1.SHA256(strings.NewReader(layer))
	if err != nil {
		t.Fatal(err)
	}
	config := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["` + h.String() + `","` + h.String() + `"]}}`
	a := archiveOf(t, file("c.json", config), file("1/layer.tar", layer),
		tar.Header{Typeflag: tar.TypeSymlink, Name: "2/layer.tar", Linkname: "../1/layer.tar"},
		file("manifest.json", `[{"Config":"c.json","Layers":["1/layer.tar","2/layer.tar"]}]`))
	img, err := Open(t.Context(), "docker-archive:"+a, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range img.Layers() {
		got, err := content1(t, l)
		if err != nil || string(got) != layer {
			t.Errorf("content differs, error is %v", err)
		}
	}
	wrong := archiveOf(t, file(strings.Repeat("0", 64)+".json", config), file("1/layer.tar", layer),
		file("manifest.json", `[{"Config":"`+strings.Repeat("0", 64)+`.json","Layers":["1/layer.tar","1/layer.tar"]}]`))
	_, err = Open(t.Context(), "docker-archive:"+wrong, Options{})
	if !errors.Is(err, ErrDigest) {
		t.Errorf("error is %v, want one that wraps %v", err, ErrDigest)
	}
}

// FuzzArchive opens arbitrary files as both kinds of archive and reads what they claim to hold.
func FuzzArchive(f *testing.F) {
	small := must(os.ReadFile(archiveOf(f, file("index.json", `{"schemaVersion":2,"manifests":[]}`), file("manifest.json", "[]"))))
	f.Add(small)
	config := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":["sha256:` + strings.Repeat("0", 64) + `"]}}`
	f.Add(must(os.ReadFile(archiveOf(f, file("c.json", config), file("l", "\x1f\x8b"), file("manifest.json", `[{"Config":"c.json","Layers":["l"]}]`)))))
	f.Fuzz(func(t *testing.T, b []byte) {
		name := filepath.Join(t.TempDir(), "archive.tar")
		err := os.WriteFile(name, b, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		for _, transport := range []string{transportArchive, transportDockerArchive} {
			img, err := Open(t.Context(), transport+":"+name, Options{})
			if err != nil {
				continue
			}
			for _, l := range img.Layers() {
				r, err := l.Uncompressed(t.Context())
				if err != nil {
					continue
				}
				_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20)) // any error will do
				_ = r.Close()
			}
		}
	})
}
