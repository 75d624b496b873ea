// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cofferdam.dev/internal/guestimage/debian"
)

//go:embed kernel.lock
var kernelLock []byte

// lock pins the kernel package. It is part of the source, because every pinned byte of the kernel is measured.
type lock struct {
	Package        string   `json:"package"`
	Version        string   `json:"version"`
	SHA256         string   `json:"sha256"`
	Suites         []string `json:"suites"`
	FallbackPrefix string   `json:"fallbackPrefix"`
	FallbackSuffix string   `json:"fallbackSuffix"`
	FallbackSuites []string `json:"fallbackSuites"`
}

func parseLock(b []byte) (lock, error) {
	var l lock
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return lock{}, fmt.Errorf("reading kernel lock: %w", err)
	}
	if l.Package == "" || l.Version == "" || len(l.SHA256) != 64 || len(l.Suites) == 0 {
		return lock{}, errors.New("reading kernel lock: package, version, sha256 or suites missing")
	}
	return l, nil
}

func (l lock) want() debian.Want {
	return debian.Want{Name: l.Package, Version: l.Version, SHA256: l.SHA256, Suites: l.Suites}
}

// kernelPackage is the kernel that a build uses.
type kernelPackage struct {
	debian.Package
	Pinned bool
}

// kernelPackage returns the pinned package or, where no mirror has it any more, the newest of its series. The choice
// of another is kept beside the packages, so that later builds of the same lock take the same one.
func (b *builder) kernelPackage(ctx context.Context, l lock) (kernelPackage, error) {
	unlock, err := lockDir(ctx, b.cache)
	if err != nil {
		return kernelPackage{}, err
	}
	defer unlock()
	f := debian.Fetcher{Dir: b.cache, Mirror: b.Mirror, SecurityMirror: b.SecurityMirror}
	if p, ok := f.Cached(l.want()); ok {
		return kernelPackage{p, true}, nil
	}
	record := filepath.Join(b.cache, "fallback-"+l.SHA256[:16]+".json")
	if p, ok := readFallback(f, record); ok {
		b.warnFallback(l, p)
		return kernelPackage{p, false}, nil
	}
	b.progress("fetching kernel package " + l.Package)
	p, err := f.Fetch(ctx, l.want())
	if err == nil {
		return kernelPackage{p, true}, nil
	}
	if !errors.Is(err, debian.ErrNotAvailable) {
		return kernelPackage{}, err
	}
	p, err = f.FetchNewest(ctx, l.FallbackPrefix, l.FallbackSuffix, l.FallbackSuites)
	if err != nil {
		return kernelPackage{}, err
	}
	b.warnFallback(l, p)
	text, err := json.Marshal(p)
	if err != nil {
		return kernelPackage{}, fmt.Errorf("recording kernel package: %w", err)
	}
	if err := os.WriteFile(record, text, 0o600); err != nil {
		return kernelPackage{}, fmt.Errorf("recording kernel package: %w", err)
	}
	return kernelPackage{p, false}, nil
}

func readFallback(f debian.Fetcher, record string) (debian.Package, bool) {
	text, err := os.ReadFile(record)
	if err != nil {
		return debian.Package{}, false
	}
	var p debian.Package
	if json.Unmarshal(text, &p) != nil {
		return debian.Package{}, false
	}
	return f.Cached(debian.Want{Name: p.Name, Version: p.Version, SHA256: p.SHA256})
}

func (b *builder) warnFallback(l lock, p debian.Package) {
	b.warn(fmt.Sprintf("the mirror no longer has the pinned kernel %s %s; using %s %s instead. The launch measurement "+
		"differs from that of the pinned image, and the manifest says pinned: false.", l.Package, l.Version, p.Name, p.Version))
}
