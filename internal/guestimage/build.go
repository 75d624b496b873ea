// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"cofferdam.dev/internal/guestimage/bzimage"
	"cofferdam.dev/internal/guestimage/cpio"
	"cofferdam.dev/internal/guestimage/debian"
	"cofferdam.dev/internal/guestimage/kmod"
)

// recipeVersion is raised when the code of the build changes what it makes of the same inputs; checkRecipe in the tests says when.
// Otherwise a machine that has an older image would take it for the new one.
const recipeVersion = "5"

// MaxInitrd bounds the initramfs: its size is boot time and guest memory.
const MaxInitrd = 40 << 20

// BuildOptions says what to build an image from. Home, AgentPath and RuncPath are required.
type BuildOptions struct {
	Home      string // $COFFERDAM_HOME; the image goes to guest/<digest> in it
	AgentPath string // the static cofferdam-guest, which becomes /init
	RuncPath  string // the static runc
	// CacheDir keeps fetched packages; empty is guest/cache in Home. A package that lies there already is taken if its
	// hash is right, which is how a build without network gets it.
	CacheDir string
	// Mirror and SecurityMirror are Debian mirrors; empty takes those of the machine's apt, else Debian's own.
	Mirror, SecurityMirror string
	Progress               func(step string)    // told of each step; may be nil
	Warn                   func(message string) // told what the user must know; nil writes to standard error
}

type builder struct {
	BuildOptions
	guest       string // directory of all images
	cache       string
	agent, runc program
}

// Build makes an image, or finds that it was already made from the same inputs, and makes it the current one. It is
// safe against being killed and against another build at the same time.
func Build(ctx context.Context, o BuildOptions) (*Image, error) {
	if o.Home == "" || o.AgentPath == "" || o.RuncPath == "" {
		return nil, errors.New("building guest image: home, agent and runtime must be named")
	}
	b := &builder{BuildOptions: o, guest: filepath.Join(o.Home, "guest"), cache: o.CacheDir}
	if b.cache == "" {
		b.cache = filepath.Join(b.guest, "cache")
	}
	if err := errors.Join(os.MkdirAll(b.guest, 0o700), os.MkdirAll(b.cache, 0o700)); err != nil {
		return nil, fmt.Errorf("building guest image: %w", err)
	}
	img, err := b.build(ctx)
	if err != nil {
		return nil, fmt.Errorf("building guest image: %w", err)
	}
	return img, nil
}

func (b *builder) build(ctx context.Context) (*Image, error) {
	unlock, err := lockDir(ctx, b.guest)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if b.agent, err = readProgram(b.AgentPath); err != nil {
		return nil, fmt.Errorf("reading agent: %w", err)
	}
	if b.runc, err = readProgram(b.RuncPath); err != nil {
		return nil, fmt.Errorf("reading runtime: %w", err)
	}
	l, err := parseLock(kernelLock)
	if err != nil {
		return nil, err
	}
	kernel, err := b.kernelPackage(ctx, l)
	if err != nil {
		return nil, err
	}
	inputs, err := b.inputs(ctx, kernel)
	if err != nil {
		return nil, err
	}
	img, ok := b.find(ctx, inputs)
	if ok {
		b.progress("image is up to date")
	} else if img, err = b.create(ctx, kernel, inputs); err != nil {
		return nil, err
	}
	if err := b.setCurrent(img.Dir()); err != nil {
		return nil, err
	}
	return img, b.prune()
}

// create makes an image that was not there.
func (b *builder) create(ctx context.Context, kernel kernelPackage, inputs []Input) (*Image, error) {
	files, release, err := b.makeFiles(ctx, kernel)
	if err != nil {
		return nil, err
	}
	m := &Manifest{
		Schema: Schema, Inputs: inputs, Files: map[string]File{}, CommandLines: map[string]string{},
		Kernel: Kernel{Package: kernel.Name, Version: kernel.Version, Release: release, SHA256: kernel.SHA256, Pinned: kernel.Pinned},
	}
	for name, data := range files {
		sum := sha256.Sum256(data)
		m.Files[name] = File{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
	}
	for _, tee := range TEEs() {
		m.CommandLines[tee] = commandLine(tee)
	}
	b.progress("writing image")
	return b.store(m, files)
}

// inputs names everything that the image depends on.
func (b *builder) inputs(ctx context.Context, kernel kernelPackage) ([]Input, error) {
	mke2fs, err := mke2fsVersion(ctx)
	if err != nil {
		return nil, err
	}
	recipe, err := recipeDigest()
	if err != nil {
		return nil, err
	}
	return []Input{
		{Name: "kernel", SHA256: kernel.SHA256, Version: kernel.Version},
		{Name: "agent", SHA256: b.agent.sha256, Version: b.agent.version},
		{Name: "runtime", SHA256: b.runc.sha256, Version: b.runc.version},
		{Name: "recipe", SHA256: recipe, Version: recipeVersion},
		{Name: "mke2fs", Version: mke2fs},
		{Name: "go", Version: runtime.Version()},
	}, nil
}

// recipeDigest covers what this package puts into an image by itself.
func recipeDigest() (string, error) {
	cmdlines := map[string]string{}
	for _, tee := range TEEs() {
		cmdlines[tee] = commandLine(tee)
	}
	var groups [][]string
	for _, g := range moduleGroups() {
		groups = append(groups, append([]string{g.name}, g.modules...))
	}
	text, err := json.Marshal(struct {
		Version  string
		Cmdlines map[string]string
		Groups   [][]string
		Skeleton []cpio.Entry
		Scratch  []string
	}{recipeVersion, cmdlines, groups, skeleton(), []string{scratchFeatures, scratchUUID, scratchHashSeed, scratchTime}})
	if err != nil {
		return "", fmt.Errorf("describing recipe: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// makeFiles makes the image's files in memory.
func (b *builder) makeFiles(ctx context.Context, kernel kernelPackage) (map[string][]byte, string, error) {
	b.progress("unpacking kernel package")
	work, err := os.MkdirTemp(b.guest, tempPrefix)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = os.RemoveAll(work) }() // if it fails, the next build tries again
	root := filepath.Join(work, "root")
	if err := debian.Unpack(ctx, kernel.Package, root); err != nil {
		return nil, "", err
	}
	modules, err := modulesDir(root)
	if err != nil {
		return nil, "", err
	}
	release := filepath.Base(modules)
	vmlinuz, err := os.ReadFile(filepath.Join(root, "boot", "vmlinuz-"+release))
	if err != nil {
		return nil, "", err
	}
	vmlinux, err := bzimage.ELF(vmlinuz)
	if err != nil {
		return nil, "", err
	}
	b.progress("making initramfs")
	tree, err := kmod.OpenTree(modules)
	if err != nil {
		return nil, "", err
	}
	initrd, err := b.initramfs(ctx, tree, work)
	if err != nil {
		return nil, "", err
	}
	return map[string][]byte{FileVmlinux: vmlinux, FileVmlinuz: vmlinuz, FileInitrd: initrd}, release, nil
}

// modulesDir returns the directory of the package's modules, which is named after the kernel's release. It moved from
// /lib to /usr/lib with Debian 13.
func modulesDir(root string) (string, error) {
	var found []string
	for _, lib := range []string{"lib", "usr/lib"} {
		dir := filepath.Join(root, lib, "modules")
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("reading kernel package: %w", err)
		}
		for _, e := range entries {
			found = append(found, filepath.Join(dir, e.Name()))
		}
	}
	if len(found) != 1 {
		return "", fmt.Errorf("reading kernel package: it has %d directories of modules, want 1", len(found))
	}
	return found[0], nil
}

func (b *builder) progress(step string) {
	if b.Progress != nil {
		b.Progress(step)
	}
}

func (b *builder) warn(message string) {
	if b.Warn != nil {
		b.Warn(message)
		return
	}
	_, _ = fmt.Fprintln(os.Stderr, "warning: "+message) // there is nowhere left to report a failure to
}
