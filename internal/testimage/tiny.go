// SPDX-License-Identifier: Apache-2.0

package testimage

import (
	"archive/tar"
	"bytes"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Tiny is an image of two small layers whose configuration has something in each field.
func Tiny() (v1.Image, error) {
	base, err := tinyLayer("etc/os-release", "ID=tiny\n")
	if err != nil {
		return nil, err
	}
	app, err := tinyLayer("app/hello", "hello\n")
	if err != nil {
		return nil, err
	}
	img, err := mutate.AppendLayers(empty.Image, base, app)
	if err != nil {
		return nil, err
	}
	img, err = mutate.CreatedAt(img, v1.Time{Time: time.Unix(1700000000, 0).UTC()})
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", "amd64"
	file.Config = v1.Config{
		Entrypoint: []string{"/app/run"}, Cmd: []string{"--serve"}, Env: []string{"PATH=/bin", "MODE=tiny"},
		User: "1000:1000", WorkingDir: "/app", StopSignal: "SIGQUIT",
	}
	return mutate.ConfigFile(img, file)
}

func tinyLayer(name, content string) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content)), ModTime: time.Unix(1700000000, 0)})
	if err != nil {
		return nil, err
	}
	_, err = io.WriteString(w, content)
	if err != nil {
		return nil, err
	}
	err = w.Close()
	if err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
}
