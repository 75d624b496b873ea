// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Schema names the form of a manifest.
const Schema = "cofferdam.dev/guestimage/v1"

// The files of an image.
const (
	FileVmlinux  = "vmlinux"
	FileVmlinuz  = "vmlinuz"
	FileInitrd   = "initrd.cpio"
	fileManifest = "manifest.json"
)

// Manifest describes an image. Its SHA-256 is the image's digest.
type Manifest struct {
	Schema string `json:"schema"`
	Kernel Kernel `json:"kernel"`
	// Inputs is everything that the bytes of the image depend on.
	Inputs []Input `json:"inputs"`
	// Files is what a launch reads, by name.
	Files map[string]File `json:"files"`
	// CommandLines is the kernel's command line for each kind of TEE.
	CommandLines map[string]string `json:"commandLines"`
}

// Kernel says which package the kernel came from, and whether it is the one that the sources pin.
type Kernel struct {
	Package string `json:"package"`
	Version string `json:"version"`
	Release string `json:"release"`
	SHA256  string `json:"sha256"`
	Pinned  bool   `json:"pinned"`
}

// Input is one input of a build: a file by its SHA-256, or a program by its version.
type Input struct {
	Name    string `json:"name"`
	SHA256  string `json:"sha256,omitempty"`
	Version string `json:"version,omitempty"`
}

// File is one file of the image.
type File struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

const maxManifest = 1 << 20

// ErrManifest is wrapped by every error about a manifest's form.
var ErrManifest = errors.New("guest image manifest is malformed")

// ParseManifest parses a manifest strictly: unknown fields, missing files and malformed digests are errors.
func ParseManifest(b []byte) (*Manifest, error) {
	if len(b) > maxManifest {
		return nil, fmt.Errorf("%w: %d bytes, at most %d allowed", ErrManifest, len(b), maxManifest)
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var m Manifest
	if err := d.Decode(&m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the document", ErrManifest)
	}
	if err := m.check(); err != nil {
		return nil, err
	}
	return &m, nil
}

// Marshal returns the manifest's only form.
func (m *Manifest) Marshal() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("marshalling guest image manifest: %w", err)
	}
	return append(b, '\n'), nil
}

func (m *Manifest) check() error {
	if m.Schema != Schema {
		return fmt.Errorf("%w: schema is %q, want %q", ErrManifest, m.Schema, Schema)
	}
	for _, name := range []string{FileVmlinux, FileVmlinuz, FileInitrd} {
		f, ok := m.Files[name]
		if !ok || f.Size <= 0 {
			return fmt.Errorf("%w: file %s is missing or empty", ErrManifest, name)
		}
		if _, err := digest(f.SHA256); err != nil {
			return fmt.Errorf("%w: file %s: %w", ErrManifest, name, err)
		}
	}
	if len(m.Files) != 3 {
		return fmt.Errorf("%w: %d files, want 3", ErrManifest, len(m.Files))
	}
	for _, tee := range TEEs() {
		if m.CommandLines[tee] == "" {
			return fmt.Errorf("%w: no command line for %s", ErrManifest, tee)
		}
	}
	if _, err := digest(m.Kernel.SHA256); err != nil {
		return fmt.Errorf("%w: kernel package: %w", ErrManifest, err)
	}
	return nil
}

func digest(s string) ([32]byte, error) {
	var d [32]byte
	if len(s) != 2*len(d) {
		return d, fmt.Errorf("digest %q is not 64 hexadecimal digits", s)
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil {
		return d, fmt.Errorf("digest %q: %w", s, err)
	}
	return d, nil
}
