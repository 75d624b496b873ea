// SPDX-License-Identifier: Apache-2.0

// Package debimage builds the container images that tests and the tour run: unmodified Debian software, taken from
// Debian's packages, without a registry, a daemon or root.
//
// It trusts Debian's archive key, through apt, and the package files that match the signed lists. It runs no
// maintainer script and changes nothing of the machine's own package state. The same packages give the same bytes.
// The images are for trying things out; they are not meant to be published.
package debimage

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/wholefile"
)

// IndexFile is the file in the output directory that lists the images.
const IndexFile = "images.json"

// recipeVersion changes whenever this package would make other images from the same packages.
const recipeVersion = 3

// Built describes an image that has been built.
type Built struct {
	File     string   `json:"file"`     // archive in the output directory
	Digest   string   `json:"digest"`   // of the image's manifest
	SHA256   string   `json:"sha256"`   // of the archive
	Size     int64    `json:"size"`     // of the archive in bytes
	Packages []string `json:"packages"` // package files that it holds
	// Program is the SHA-256 of the program of ours that it holds; empty for none.
	Program string `json:"program,omitempty"`
}

// Index is the content of IndexFile.
type Index struct {
	Recipe int              `json:"recipe"`
	Images map[string]Built `json:"images"`
}

// Options say what to build and where.
type Options struct {
	Out  string   // output directory
	Only []string // names of images; empty means all
	// Sidecar is the program of the sidecar image.
	Sidecar string
	Update  bool         // fetch package lists and build even if everything is up to date
	Log     *slog.Logger // nil means no log
}

// Names returns the names of the images in the order in which they are built.
func Names() []string {
	var names []string
	for _, s := range recipes() {
		names = append(names, s.name)
	}
	return names
}

// Build builds the images that are missing from the output directory or were made by another recipe, and returns the
// index of all that are there. It may run in several processes at once: the later ones wait.
func Build(ctx context.Context, o Options) (*Index, error) {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	for _, name := range o.Only {
		if !slices.Contains(Names(), name) {
			return nil, fmt.Errorf("building images: %q is unknown, expected any of %s", name, strings.Join(Names(), ", "))
		}
	}
	unlock, err := lock(o.Out)
	if err != nil {
		return nil, fmt.Errorf("building images: %w", err)
	}
	defer unlock()
	index := readIndex(o.Out)
	var source *apt
	for _, r := range recipes() {
		if len(o.Only) > 0 && !slices.Contains(o.Only, r.name) {
			continue
		}
		program, err := r.readProgram(o.Sidecar)
		if err != nil {
			return nil, fmt.Errorf("building image %s: %w", r.name, err)
		}
		if !o.Update && index.current(o.Out, r.name, programSum(program)) {
			continue
		}
		if source == nil {
			source, err = openApt(ctx, filepath.Join(o.Out, "apt"), o.Update, log)
			if err != nil {
				return nil, err
			}
		}
		built, err := buildOne(ctx, source, r, program, o.Out)
		if err != nil {
			return nil, fmt.Errorf("building image %s: %w", r.name, err)
		}
		log.InfoContext(ctx, "built image", slog.String("name", r.name), slog.String("digest", built.Digest), slog.Int64("bytes", built.Size))
		index.Images[r.name] = built
		err = writeIndex(o.Out, index)
		if err != nil {
			return nil, err
		}
	}
	return index, nil
}

func openApt(ctx context.Context, dir string, force bool, log *slog.Logger) (*apt, error) {
	a, err := newApt(ctx, dir, log)
	if err != nil {
		return nil, err
	}
	return a, a.update(ctx, force)
}

func buildOne(ctx context.Context, a *apt, r recipe, program []byte, out string) (Built, error) {
	layers, debs, err := r.layers(ctx, a, program)
	if err != nil {
		return Built{}, err
	}
	b, digest, err := archive(r.name, r.config, layers)
	if err != nil {
		return Built{}, err
	}
	built := Built{File: r.name + ".tar", Digest: digest.String(), SHA256: sha256Hex(b), Size: int64(len(b)), Program: programSum(program)}
	for _, d := range debs {
		built.Packages = append(built.Packages, d.File)
	}
	return built, wholefile.Replace(filepath.Join(out, built.File), b, 0o644)
}

// current reports whether the archive of an image is there and was made by this recipe, with this program.
func (x *Index) current(dir, name, program string) bool {
	b, ok := x.Images[name]
	if !ok || b.Program != program {
		return false
	}
	info, err := os.Stat(filepath.Join(dir, b.File))
	return err == nil && info.Size() == b.Size
}

// ReadIndex reads the index of an output directory.
func ReadIndex(dir string) (*Index, error) {
	b, err := os.ReadFile(filepath.Join(dir, IndexFile))
	if err != nil {
		return nil, fmt.Errorf("reading the index of images: %w", err)
	}
	x := &Index{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err = d.Decode(x)
	if err != nil {
		return nil, fmt.Errorf("reading the index of images: %w", err)
	}
	return x, nil
}

// readIndex returns the index, or an empty one if there is none that this recipe made.
func readIndex(dir string) *Index {
	x, err := ReadIndex(dir)
	if err != nil || x.Recipe != recipeVersion || x.Images == nil {
		return &Index{Recipe: recipeVersion, Images: map[string]Built{}}
	}
	return x
}

func writeIndex(dir string, x *Index) error {
	b, err := json.MarshalIndent(x, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the index of images: %w", err)
	}
	return wholefile.Replace(filepath.Join(dir, IndexFile), append(b, '\n'), 0o644)
}

// lock makes the directory and takes the lock in it.
func lock(dir string) (unlock func(), err error) {
	err = os.MkdirAll(dir, 0o750)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	if err != nil {
		_ = f.Close() // the lock failed already
		return nil, &fs.PathError{Op: "lock", Path: f.Name(), Err: err}
	}
	return func() { _ = f.Close() }, nil // closing unlocks
}
