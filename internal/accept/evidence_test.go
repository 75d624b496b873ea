// SPDX-License-Identifier: Apache-2.0

package accept

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"cofferdam.dev/internal/testcap"
)

const evidenceNonce = "000102030405060708090a0b0c0d0e0f"

// TestEvidenceFromInside runs the command in a container, as a user who is not root, in an image that has a symbolic link
// where the agent puts its socket. What it prints is accepted outside as a workload's; what the host gets of the same group
// is not.
func TestEvidenceFromInside(t *testing.T) {
	needVM(t)
	h := home(t)
	image := "oci:" + commandImage(t) + ":latest"
	args := []string{"attest", "--nonce", evidenceNonce}
	inside := cofferdam(t, h, "", append([]string{"run", "--rm", "--network", "none", image, "--"}, args...)...)
	if inside.code != 0 || !strings.Contains(inside.stderr, "source: socket") {
		t.Fatalf("exit code %d\nstdout:\n%s\nstderr:\n%s", inside.code, inside.stdout, inside.stderr)
	}
	verify := append([]string{"verify", "-", "--nonce", evidenceNonce, "--simulated-root", "local"},
		"--policy", policyWith(t, h, image, args...))
	for source, code := range map[string]int{"workload": 0, "host": 3} {
		r := cofferdam(t, h, inside.stdout, append(verify, "--source", source)...)
		if r.code != code {
			t.Errorf("verify --source %s: exit code %d, want %d\n%s%s", source, r.code, code, r.stdout, r.stderr)
		}
	}
}

// policyWith makes the policy of an image and a command as a relying party would.
func policyWith(t *testing.T, home, image string, command ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "policy.rego")
	must(t, home, append([]string{"policy", "generate", "--file", path, image, "--"}, command...)...)
	return path
}

// commandImage makes an image of the shipped command alone and returns the layout's directory.
func commandImage(t *testing.T) string {
	t.Helper()
	program, err := os.ReadFile(testcap.Bin("cofferdam"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	made := time.Unix(1700000000, 0)
	for _, h := range []tar.Header{
		{Typeflag: tar.TypeReg, Name: "cofferdam", Mode: 0o755, Size: int64(len(program))},
		{Typeflag: tar.TypeDir, Name: "run/", Mode: 0o755},
		{Typeflag: tar.TypeSymlink, Name: "run/cofferdam", Linkname: "/elsewhere", Mode: 0o777},
	} {
		h.ModTime = made
		err = w.WriteHeader(&h)
		if err == nil && h.Size > 0 {
			_, err = w.Write(program)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err = w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	file.Config = v1.Config{Entrypoint: []string{"/cofferdam"}, User: "1000:1000", WorkingDir: "/"}
	img, err = mutate.ConfigFile(img, file)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "image")
	path, err := layout.Write(dir, empty.Index)
	if err == nil {
		err = path.AppendImage(img, layout.WithAnnotations(map[string]string{"org.opencontainers.image.ref.name": "latest"}))
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
