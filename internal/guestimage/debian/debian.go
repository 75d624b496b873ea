// SPDX-License-Identifier: Apache-2.0

// Package debian fetches one binary package of Debian and unpacks it, without installing anything and without root.
//
// It runs the machine's own apt-get with directories and sources of its own, so the machine's suites do not matter and
// its proxies, credentials and certificates still apply. A package is accepted if its SHA-256 is the one that the lock
// names. If no mirror has that version any more, the newest of the same series is taken on the word of the archive's
// signature, and the result says so: it has other bytes, and hence another launch measurement.
//
// The package trusts the lock, the Debian archive keyring and apt-get's check of signatures. It never runs anything
// out of a package: dpkg-deb unpacks files and no maintainer script.
package debian

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// DefaultKeyring is where Debian's package of archive keys puts them.
const DefaultKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// ErrNotAvailable is wrapped when the sources have no package of the wanted name and version.
var ErrNotAvailable = errors.New("package is not available")

// ErrNoMirror says that nobody named a mirror of Debian.
var ErrNoMirror = errors.New("apt's sources name no mirror of Debian over HTTP")

// Package is a package file whose bytes were checked.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	SHA256  string `json:"sha256"` // lower-case hex
	File    string `json:"-"`      // path of the .deb
}

// Want names one exact package.
type Want struct {
	Name, Version, SHA256 string
	Suites                []string // where to look, e.g. "bookworm-backports"
}

// Fetcher fetches packages into a directory.
type Fetcher struct {
	Dir string // packages and apt's own state are kept here
	// Mirror and SecurityMirror are base addresses; empty asks the machine's apt, and then its sources.
	Mirror, SecurityMirror string
	// Keyring is the file that the archive's signatures are checked with; empty is DefaultKeyring.
	Keyring string
}

// Cached returns the wanted package if an earlier fetch left it, and checks it again.
func (f Fetcher) Cached(w Want) (Package, bool) {
	path := f.path(w.Name, w.Version)
	sum, err := fileSHA256(path)
	if err != nil || sum != w.SHA256 {
		return Package{}, false
	}
	return Package{Name: w.Name, Version: w.Version, SHA256: sum, File: path}, true
}

// Fetch returns exactly the wanted package, downloading it if need be. ErrNotAvailable means that the sources were
// read and do not have it.
func (f Fetcher) Fetch(ctx context.Context, w Want) (Package, error) {
	if p, ok := f.Cached(w); ok {
		return p, nil
	}
	a, err := f.open(ctx, w.Suites)
	if err != nil {
		return Package{}, err
	}
	p, err := a.download(ctx, w.Name, w.Version)
	if err != nil {
		return Package{}, err
	}
	if p.SHA256 != w.SHA256 {
		return Package{}, fmt.Errorf("package %s %s has SHA-256 %s, the lock says %s", w.Name, w.Version, p.SHA256, w.SHA256)
	}
	return p, nil
}

// FetchNewest returns the newest package of the suites whose name matches the prefix and suffix around a version,
// such as linux-image-6.12.…-cloud-amd64. What it accepts is what the archive's signature covers.
func (f Fetcher) FetchNewest(ctx context.Context, prefix, suffix string, suites []string) (Package, error) {
	a, err := f.open(ctx, suites)
	if err != nil {
		return Package{}, err
	}
	name, version, err := a.newest(ctx, prefix, suffix)
	if err != nil {
		return Package{}, err
	}
	return a.download(ctx, name, version)
}

// Unpack extracts the files of a package into dir, which it makes, and replaces what was there.
func Unpack(ctx context.Context, p Package, dir string) error {
	temp := dir + ".partial"
	if err := errors.Join(os.RemoveAll(temp), os.RemoveAll(dir), os.MkdirAll(temp, 0o700)); err != nil {
		return fmt.Errorf("unpacking %s: %w", p.Name, err)
	}
	out, err := exec.CommandContext(ctx, "dpkg-deb", "--extract", p.File, temp).CombinedOutput()
	if err != nil {
		return fmt.Errorf("unpacking %s: dpkg-deb: %w: %s", p.Name, err, lastLine(out))
	}
	if err := os.Rename(temp, dir); err != nil {
		return fmt.Errorf("unpacking %s: %w", p.Name, err)
	}
	return nil
}

func (f Fetcher) path(name, version string) string {
	return filepath.Join(f.Dir, name+"_"+strings.ReplaceAll(version, ":", "%3a")+"_amd64.deb")
}

func fileSHA256(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = file.Close() }() // read only
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func lastLine(b []byte) string {
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return lines[len(lines)-1]
}
