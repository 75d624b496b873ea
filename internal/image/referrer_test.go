// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// linux is a random image for the one platform that is opened.
func linux(t *testing.T) v1.Image {
	t.Helper()
	img, err := random.Image(256, 1)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = platformOS, platformArchitecture
	img, err = mutate.ConfigFile(img, c)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

const (
	testArtifact = "application/x-test"
	testMedia    = "application/test+data"
)

// attachAndFind attaches two files to an image and one of another type, and finds the two.
func attachAndFind(t *testing.T, ref string) {
	t.Helper()
	for _, a := range []Attachment{
		{ArtifactType: testArtifact, MediaType: testMedia, Name: "a", Data: []byte("one")},
		{ArtifactType: testArtifact, MediaType: testMedia, Name: "b", Data: []byte("two")},
		{ArtifactType: testArtifact, MediaType: testMedia, Name: "b", Data: []byte("two")},
		{ArtifactType: "application/other", MediaType: testMedia, Name: "c", Data: []byte("three")},
		{ArtifactType: testArtifact, MediaType: "application/other", Name: "d", Data: []byte("four")},
	} {
		digest, err := Attach(t.Context(), ref, a, Options{})
		if err != nil || !strings.HasPrefix(digest, "sha256:") {
			t.Fatalf("%s: %q, %v", a.Name, digest, err)
		}
	}
	list, err := Attached(t.Context(), ref, testArtifact, testMedia, Options{})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, a := range list {
		found[a.Name] = string(a.Data)
	}
	if len(list) != 2 || found["a"] != "one" || found["b"] != "two" {
		t.Errorf("found %+v", list)
	}
}

func TestAttachInLayout(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	err = l.AppendImage(linux(t))
	if err != nil {
		t.Fatal(err)
	}
	attachAndFind(t, "oci:"+dir)
	_, err = Open(t.Context(), "oci:"+dir, Options{}) // attachments are no images
	if err != nil {
		t.Error(err)
	}
	list, err := Attached(t.Context(), "oci:"+dir, testArtifact, testMedia, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		d, err := describe(a.Data, "")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "blobs", "sha256", d.Digest.Hex)
		err = errors.Join(os.Chmod(path, 0o600), os.WriteFile(path, []byte("evi"), 0o600))
		if err != nil {
			t.Fatal(err)
		}
		_, err = Attached(t.Context(), "oci:"+dir, testArtifact, testMedia, Options{})
		if !errors.Is(err, ErrDigest) {
			t.Errorf("tampered: %v", err)
		}
	}
}

func TestAttachInRegistry(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	ref, err := name.ParseReference(s.host + "/app:1")
	if err != nil {
		t.Fatal(err)
	}
	img := linux(t)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{
		Platform: &v1.Platform{OS: platformOS, Architecture: platformArchitecture},
	}})
	err = remote.WriteIndex(ref, index)
	if err != nil {
		t.Fatal(err)
	}
	attachAndFind(t, s.host+"/app:1")
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	found, err := remote.Referrers(ref.Context().Digest(digest.String())) // as any other client sees it
	if err != nil {
		t.Fatal(err)
	}
	m, err := found.IndexManifest()
	if err != nil || len(m.Manifests) != 4 {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestAttachRefuses(t *testing.T) {
	t.Parallel()
	a := Attachment{ArtifactType: testArtifact, MediaType: testMedia, Data: []byte("x")}
	for ref, want := range map[string]string{
		"oci-archive:x.tar": "an archive can not be added to", "docker-archive:x.tar": "an archive can not be added to",
		"oci:/nonexistent": "no such file", "UPPER/case:x": "not an image reference",
	} {
		_, err := Attach(t.Context(), ref, a, Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", ref, err, want)
		}
		_, err = Attached(t.Context(), ref, testArtifact, testMedia, Options{})
		if err == nil {
			t.Errorf("found something at %s", ref)
		}
	}
	for _, data := range [][]byte{nil, make([]byte, maxArtifact+1)} {
		a.Data = data
		_, err := Attach(t.Context(), "oci:x", a, Options{})
		if err == nil || !strings.Contains(err.Error(), "want 1 to") {
			t.Errorf("%d bytes: %v", len(data), err)
		}
	}
}
