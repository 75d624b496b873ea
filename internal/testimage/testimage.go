// SPDX-License-Identifier: Apache-2.0

// Package testimage has images for tests of whatever prepares groups and never looks into a layer. It trusts nothing, and is
// never part of a program.
package testimage

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/image"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/spec"
)

// Source gives each reference an image without content that runs /bin/serve, and whose one layer has the reference's length
// as its root. References with "missing" in them have none.
type Source struct{ dir string }

// New returns a source.
func New(t testing.TB) *Source {
	t.Helper()
	img, err := mutate.Canonical(empty.Image)
	if err != nil {
		t.Fatal(err)
	}
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", "amd64"
	c.Config.Cmd, c.Config.Env = []string{"/bin/serve"}, []string{"PATH=/bin"}
	img, err = mutate.ConfigFile(img, c)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	l, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = l.AppendImage(img)
	}
	if err != nil {
		t.Fatal(err)
	}
	return &Source{dir}
}

// Open implements deploy.Images.
func (s *Source) Open(ctx context.Context, ref string, _ []spec.RegistryCredential) (assemble.Image, error) {
	if strings.Contains(ref, "missing") {
		return assemble.Image{}, fmt.Errorf("%w: %s", image.ErrNotFound, ref)
	}
	img, err := image.Open(ctx, "oci:"+s.dir, image.Options{})
	return assemble.Image{Image: img, Entries: []layer.Entry{{Path: "/layer", RootHash: [32]byte{byte(len(ref))}, DataBlocks: 1}}}, err
}
