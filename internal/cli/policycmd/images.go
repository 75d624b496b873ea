// SPDX-License-Identifier: Apache-2.0

package policycmd

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/assemble"
	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/layer"
	"cofferdam.dev/internal/lockfile"
	"cofferdam.dev/internal/policygen"
	"cofferdam.dev/internal/spec"
)

// imageSource says where facts about images come from.
type imageSource struct {
	facts      []string // files
	lock       string   // path of the lock file; empty: beside the description
	locked     bool     // never open an image
	updateLock bool     // open all images and write down what they are
	plainHTTP  bool
	archives   map[string]string // where an image is found in place of its reference
}

func (s *imageSource) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringArrayVar(&s.facts, "facts", nil, "take configuration and layer roots of images from a file (JSON)")
	f.StringVar(&s.lock, "lock", "", "lock file (default: "+lockfile.Name+" beside the description)")
	f.BoolVar(&s.locked, "locked", false, "open no image: the lock file or --facts must hold everything")
	f.BoolVar(&s.updateLock, "update-lock", false, "open every image anew and write what it is to the lock file")
}

func (s *imageSource) check(cmd *cobra.Command) error {
	if s.locked && s.updateLock {
		return console.Usage(cmd, "--locked and --update-lock exclude each other")
	}
	return nil
}

// lockFor is the lock file of a description. Images by themselves have one only if it is asked for: what `run` would do
// does not depend on the directory.
func (s *imageSource) lockFor(file string) string {
	switch {
	case s.lock != "":
		return s.lock
	case file != "" && file != "-":
		return filepath.Join(filepath.Dir(file), lockfile.Name)
	case s.locked || s.updateLock:
		return lockfile.Name
	}
	return ""
}

// imageFacts finds out about images, each once.
type imageFacts struct {
	a      *App
	source imageSource
	given  lockfile.Facts
	path   string // of the lock file
	lock   *lockfile.File
	known  lockfile.Facts
	opened map[string]string // digests by reference
}

func (a *App) imageFacts(s imageSource, file string) (*imageFacts, error) {
	f := &imageFacts{a: a, source: s, given: lockfile.Facts{}, path: s.lockFor(file), lock: &lockfile.File{}, known: lockfile.Facts{}, opened: map[string]string{}}
	for _, name := range s.facts {
		facts, err := lockfile.OpenFacts(name)
		if err != nil {
			return nil, err
		}
		for ref, i := range facts {
			f.given[ref] = i
		}
	}
	if f.path == "" {
		return f, nil
	}
	var err error
	f.lock, err = lockfile.Open(f.path)
	return f, err
}

// resolve returns the facts about the images of a group: given ones first, then locked ones, then those of the images
// themselves.
func (f *imageFacts) resolve(ctx context.Context, g *spec.Group) (lockfile.Facts, error) {
	var missing []string
	for _, c := range g.Containers {
		if _, ok := f.known[c.Image]; ok {
			continue
		}
		facts, ok, err := f.lookUp(c.Image)
		switch {
		case err != nil:
			return nil, err
		case ok:
			f.known[c.Image] = facts
		case f.source.locked:
			if !slices.Contains(missing, c.Image) {
				missing = append(missing, c.Image)
			}
		default:
			f.known[c.Image], err = f.open(ctx, c.Image, g.Platform != spec.PlatformOwn)
			if err != nil {
				return nil, err
			}
		}
	}
	if len(missing) > 0 {
		return nil, console.Fixed(fmt.Errorf("%s lacks %s", f.lockName(), strings.Join(missing, ", ")), "the same command with --update-lock in place of --locked")
	}
	return f.known, nil
}

func (f *imageFacts) lockName() string {
	if len(f.given) > 0 {
		return f.path + " and the files of --facts"
	}
	return f.path
}

func (f *imageFacts) lookUp(ref string) (policygen.ImageFacts, bool, error) {
	if facts, ok := f.given[ref]; ok {
		return facts, true, nil
	}
	if f.source.updateLock {
		return policygen.ImageFacts{}, false, nil
	}
	facts, ok, err := f.lock.Facts(ref, layer.Scheme)
	if err != nil {
		return facts, false, console.Fixed(fmt.Errorf("%s: %w", f.path, err), "the same command with --update-lock")
	}
	if ok {
		facts.Reference = assemble.Identity(ref, f.lock.Images[ref].Digest)
	}
	return facts, ok, nil
}

// open finds out about an image by itself. For a platform that is not ours it warns of layers whose roots other versions
// of the converter compute otherwise.
func (f *imageFacts) open(ctx context.Context, ref string, foreign bool) (policygen.ImageFacts, error) {
	where := ref
	if archive, ok := f.source.archives[ref]; ok {
		where = archive
	}
	img, err := f.a.image.OpenImage(ctx, where, f.source.plainHTTP)
	if err != nil {
		return policygen.ImageFacts{}, err
	}
	entries, err := f.a.image.Convert(ctx, img)
	if err != nil {
		return policygen.ImageFacts{}, err
	}
	for _, e := range entries {
		if foreign && e.Orphans.Count > 0 {
			f.a.warnOrphans(e)
		}
	}
	f.opened[ref] = img.Digest()
	return assemble.Facts(ref, img, entries), nil
}

// finish writes the lock file if that was asked for, and names the references that may mean something else tomorrow.
func (f *imageFacts) finish() error {
	for _, ref := range slices.Sorted(maps.Keys(f.opened)) {
		if assemble.Identity(ref, "") != ref || strings.Contains(ref, "@sha256:") {
			continue // a file of ours, or pinned already
		}
		if f.source.updateLock {
			f.a.Say("%s: pinned to %s", ref, f.opened[ref])
		} else {
			f.a.Say("%s is a tag that may move; today it is %s (--update-lock writes that down)", ref, f.opened[ref])
		}
	}
	if !f.source.updateLock {
		return nil
	}
	return lockfile.Update(f.path, func(l *lockfile.File) error {
		for ref, digest := range f.opened {
			if err := l.Set(ref, digest, layer.Scheme, f.known[ref]); err != nil {
				return err
			}
		}
		return nil
	})
}
