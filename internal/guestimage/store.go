// SPDX-License-Identifier: Apache-2.0

package guestimage

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tempPrefix begins the names of what is not finished.
const tempPrefix = ".new-"

// find returns the image that was made from exactly these inputs, if its files are still true.
func (b *builder) find(ctx context.Context, inputs []Input) (*Image, bool) {
	dirs, err := os.ReadDir(b.guest)
	if err != nil {
		return nil, false
	}
	for _, d := range dirs {
		if _, err := digest(d.Name()); err != nil {
			continue
		}
		img, err := Open(filepath.Join(b.guest, d.Name()))
		if err != nil || !slices.Equal(img.manifest.Inputs, inputs) || hex.EncodeToString(img.digest[:]) != d.Name() {
			continue
		}
		if img.Verify(ctx) == nil {
			return img, true
		}
	}
	return nil, false
}

// store writes the image beside the others under its final name, whole or not at all.
func (b *builder) store(m *Manifest, files map[string][]byte) (*Image, error) {
	text, err := m.Marshal()
	if err != nil {
		return nil, err
	}
	temp, err := os.MkdirTemp(b.guest, tempPrefix)
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(temp) }() // gone already if all went well
	for name, data := range files {
		if err := writeSync(filepath.Join(temp, name), data); err != nil {
			return nil, err
		}
	}
	if err := writeSync(filepath.Join(temp, fileManifest), text); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(text)
	final := filepath.Join(b.guest, hex.EncodeToString(sum[:]))
	err = os.Rename(temp, final)
	if errors.Is(err, fs.ErrExist) || errors.Is(err, unix.ENOTEMPTY) {
		err = replace(temp, final) // files of the old one are damaged, or find would have found it
	}
	if err != nil {
		return nil, err
	}
	return Open(final)
}

// replace puts the directory temp into the place of final, which it removes.
func replace(temp, final string) error {
	old := temp + "-old"
	if err := os.Rename(final, old); err != nil {
		return err
	}
	if err := os.Rename(temp, final); err != nil {
		return err
	}
	return os.RemoveAll(old)
}

// setCurrent points the symbolic link at an image, in one step.
func (b *builder) setCurrent(dir string) error {
	link := filepath.Join(b.guest, "current")
	name := filepath.Base(dir)
	if at, err := os.Readlink(link); err == nil && at == name {
		return nil
	}
	temp := filepath.Join(b.guest, tempPrefix+"current")
	if err := os.RemoveAll(temp); err != nil {
		return err
	}
	if err := os.Symlink(name, temp); err != nil {
		return err
	}
	return os.Rename(temp, link)
}

// keepImages is how many images stay beside the current one, for groups that are just being started from one of them.
const keepImages = 2

// prune removes the oldest images and what killed builds left. It is called under the lock, so nothing that it removes
// is being made.
func (b *builder) prune() error {
	found, err := os.ReadDir(b.guest)
	if err != nil {
		return err
	}
	current, err := os.Readlink(filepath.Join(b.guest, "current"))
	if err != nil {
		return err
	}
	type old struct {
		path string
		time time.Time
	}
	var images []old
	for _, d := range found {
		path := filepath.Join(b.guest, d.Name())
		if strings.HasPrefix(d.Name(), tempPrefix) {
			if err := os.RemoveAll(path); err != nil {
				return err
			}
			continue
		}
		_, err := digest(d.Name())
		info, infoErr := d.Info()
		if err == nil && infoErr == nil && d.Name() != current {
			images = append(images, old{path, info.ModTime()})
		}
	}
	slices.SortFunc(images, func(x, y old) int { return y.time.Compare(x.time) })
	for _, i := range images[min(keepImages, len(images)):] {
		if err := os.RemoveAll(i.path); err != nil {
			return err
		}
	}
	return nil
}

// lockDir waits until no other build works in dir. A killed build's lock is gone with it.
func lockDir(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil // closing releases the lock
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("locking: %w", err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("waiting for another build: %w", ctx.Err()), f.Close())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func writeSync(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}
