// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	containerregistry "github.com/google/go-containerregistry/pkg/v1/remote"

	"cofferdam.dev/internal/lockfile"
	"cofferdam.dev/internal/testimage"
)

// TestTagsArePinned locks an image of a registry by its tag, and makes its policy without the registry.
func TestTagsArePinned(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(registry.New(registry.Logger(slog.NewLogLogger(slog.DiscardHandler, slog.LevelInfo))))
	host := strings.TrimPrefix(server.URL, "http://")
	tag, err := name.NewTag(host+"/tiny:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	img, err := testimage.Tiny()
	if err != nil {
		t.Fatal(err)
	}
	if err := containerregistry.Write(tag, img); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "compose.yaml")
	text := "services: {a: {image: \"" + tag.String() + "\"}, b: {image: \"" + host + "/tiny@" + digest.String() + "\"}}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, said := cofferdam(t, "policy", "generate", "--plain-http", file)
	if want := tag.String() + " is a tag that may move; today it is " + digest.String(); code != 0 || !strings.Contains(said, want) {
		t.Errorf("exit code %d, said %q, want %q", code, said, want)
	}
	code, first, said := cofferdam(t, "policy", "generate", "--plain-http", "--update-lock", file)
	if want := tag.String() + ": pinned to " + digest.String(); code != 0 || strings.Count(said, "pinned to") != 1 || !strings.Contains(said, want) {
		t.Errorf("exit code %d, said %q, want %q", code, said, want)
	}
	server.Close()
	code, second, said := cofferdam(t, "policy", "generate", "--locked", file)
	if code != 0 || first != second || said != "" {
		t.Errorf("exit code %d, said %q; the same policy: %v", code, said, first == second)
	}
	lock, err := lockfile.Open(filepath.Join(filepath.Dir(file), lockfile.Name))
	if err != nil || len(lock.Images) != 2 || lock.Images[tag.String()].Digest != digest.String() {
		t.Errorf("lock %+v, %v", lock, err)
	}
}
