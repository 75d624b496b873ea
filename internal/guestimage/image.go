// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ErrNoImage is wrapped by errors that mean that no image was built yet.
var ErrNoImage = errors.New("no guest image: run `cofferdam guest build`")

// Image is a built image in a directory.
type Image struct {
	dir      string
	digest   [32]byte
	manifest *Manifest
}

// Boot is what QEMU is given to boot.
type Boot struct {
	Kernel  string // path
	Initrd  string // path
	Cmdline string // measured as it is, never added to
}

// Current opens the image that was built last under home ($COFFERDAM_HOME).
func Current(home string) (*Image, error) {
	dir, err := filepath.EvalSymlinks(filepath.Join(home, "guest", "current"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNoImage
	}
	if err != nil {
		return nil, fmt.Errorf("opening guest image: %w", err)
	}
	return Open(dir)
}

// Open opens the image in dir. It reads the manifest and looks whether the files have their sizes; Verify reads them.
func Open(dir string) (*Image, error) {
	text, err := os.ReadFile(filepath.Join(dir, fileManifest))
	if err != nil {
		return nil, fmt.Errorf("opening guest image: %w", err)
	}
	m, err := ParseManifest(text)
	if err != nil {
		return nil, fmt.Errorf("opening guest image %s: %w", dir, err)
	}
	img := &Image{dir: dir, digest: sha256.Sum256(text), manifest: m}
	for name, want := range m.Files {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("opening guest image: %w", err)
		}
		if info.Size() != want.Size {
			return nil, fmt.Errorf("opening guest image: %s has %d bytes, the manifest says %d",
				filepath.Join(dir, name), info.Size(), want.Size)
		}
	}
	return img, nil
}

// Dir is the image's directory.
func (i *Image) Dir() string { return i.dir }

// Digest is the SHA-256 of the manifest, which names the image.
func (i *Image) Digest() [32]byte { return i.digest }

// Manifest returns the image's description, which the caller must not change.
func (i *Image) Manifest() *Manifest { return i.manifest }

// Boot returns what to boot under a kind of TEE. With elf it is the unpacked kernel, which emulated machines boot
// faster and measured firmware can not boot.
func (i *Image) Boot(tee string, elf bool) (Boot, error) {
	cmdline, ok := i.manifest.CommandLines[tee]
	if !ok {
		return Boot{}, fmt.Errorf("guest image has no command line for TEE %q", tee)
	}
	if elf && tee != Simulated {
		return Boot{}, fmt.Errorf("TEE %q measures the packed kernel and can not boot the unpacked one", tee)
	}
	return Boot{
		Kernel:  filepath.Join(i.dir, kernelFile(elf)),
		Initrd:  filepath.Join(i.dir, FileInitrd),
		Cmdline: cmdline,
	}, nil
}

func kernelFile(elf bool) string {
	if elf {
		return FileVmlinux
	}
	return FileVmlinuz
}

// Verify reads the files and compares them with the manifest.
func (i *Image) Verify(ctx context.Context) error {
	for _, name := range []string{FileVmlinux, FileVmlinuz, FileInitrd} {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("verifying guest image: %w", err)
		}
		got, err := hashFile(filepath.Join(i.dir, name))
		if err != nil {
			return fmt.Errorf("verifying guest image: %w", err)
		}
		if want := i.manifest.Files[name]; got != want {
			return fmt.Errorf("verifying guest image: %s has SHA-256 %s (%d bytes), the manifest says %s (%d bytes)",
				filepath.Join(i.dir, name), got.SHA256, got.Size, want.SHA256, want.Size)
		}
	}
	return nil
}

func hashFile(path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer func() { _ = f.Close() }() // read only
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return File{}, fmt.Errorf("reading %s: %w", path, err)
	}
	return File{SHA256: hex.EncodeToString(h.Sum(nil)), Size: n}, nil
}
