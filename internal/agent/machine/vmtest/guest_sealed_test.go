// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/block"
	"cofferdam.dev/internal/agent/machine/devmapper"
	"cofferdam.dev/internal/agent/machine/mount"
	"cofferdam.dev/internal/volume/sealed"
)

const sealedSerial = "sealed"

// sealedKey is the key of the volume, which the guest gets as it knows the rest of the tests.
var sealedKey = sealed.Key{1, 2, 3}

// sealedPlan is what a descriptor would say about a sealed volume, and what our own reader reads of it.
type sealedPlan struct {
	Facts  sealed.Facts
	Digest string // SHA-256 of the data
}

// writeSealed makes the disk of a sealed volume.
func writeSealed(t *testing.T, path string) sealedPlan {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a failure shows when the disk is read
	tree := fstest.MapFS{"big": {Data: bigData()}, "dir/note": {Data: []byte(secretText)}}
	facts, err := sealed.Build(t.Context(), tree, f, sealedKey, sealed.Options{})
	if err != nil {
		t.Fatal(err)
	}
	d, err := sealed.Open(t.Context(), fileSource{f}, sealedKey, facts, sealed.OpenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(d, 0, d.Size())); err != nil {
		t.Fatal(err)
	}
	return sealedPlan{facts, hex.EncodeToString(h.Sum(nil))}
}

type fileSource struct{ *os.File }

func (f fileSource) Size() int64 {
	info, err := f.Stat()
	if err != nil {
		return 0
	}
	return info.Size()
}

func (f fileSource) ReadAt(_ context.Context, p []byte, off int64) (int, error) {
	return f.File.ReadAt(p, off)
}

// testSealed opens a sealed volume with the kernel's dm-crypt and dm-verity, which read what our own reader reads, and refuse
// what the host changes.
func (g *guest) testSealed(t *testing.T) {
	if err := system.Modules.Load("scratch"); err != nil { // it has dm-crypt
		t.Fatal(err)
	}
	disk, err := block.Finder{Wait: 2 * time.Second}.Find(t.Context(), sealedSerial)
	if err != nil {
		t.Fatal(err)
	}
	dm, err := devmapper.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dm.Close() }) // the devices are removed before
	f := g.plan.Sealed.Facts
	keys, err := sealed.Derive(sealedKey, f.ID)
	if err != nil {
		t.Fatal(err)
	}
	activate := func(name string, sectors uint64, kind, params string) devmapper.Device {
		d, err := dm.Activate(t.Context(), name, devmapper.Table{
			Targets: []devmapper.Target{{Sectors: sectors, Type: kind, Params: []byte(params)}}, ReadOnly: true, Secret: true,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := dm.Remove(context.Background(), d); err != nil {
				t.Error(err)
			}
		})
		return d
	}
	image, err := sealed.ImageSize(f.Size)
	if err != nil {
		t.Fatal(err)
	}
	crypt := activate("sealed-crypt", uint64(image)/512, "crypt", fmt.Sprintf("aes-xts-plain64 %x 0 %s 0 1 sector_size:4096", keys.Data[:], disk.Number()))
	blocks := f.Size / sealed.BlockSize
	verity := activate("sealed", uint64(f.Size)/512, "verity", fmt.Sprintf("1 %s %s 4096 4096 %d %d sha256 %x %x",
		crypt.Number(), crypt.Number(), blocks, blocks+1, f.Root, keys.Salt[:]))

	start := time.Now()
	if got, err := digestOf(verity.Path()); err != nil || got != g.plan.Sealed.Digest {
		t.Errorf("the kernel reads %s, want %s: %v", got, g.plan.Sealed.Digest, err)
	}
	t.Logf("%d KiB were read in %v", f.Size>>10, time.Since(start).Round(time.Millisecond))
	mountSealed(t, verity.Path())
	raw, b := rawDisk(t, sealedSerial), make([]byte, 4096)
	at := f.Size / 2 &^ 4095
	if _, err := raw.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[77] ^= 1
	if _, err := raw.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	dropCaches(t)
	if got, err := digestOf(verity.Path()); !errors.Is(err, unix.EIO) {
		t.Errorf("after a change the kernel reads %s, %v", got, err)
	}
}

// mountSealed mounts the filesystem of the volume.
func mountSealed(t *testing.T, device string) {
	t.Helper()
	if err := system.Modules.Load("volumes"); err != nil { // it has EROFS
		t.Fatal(err)
	}
	target := t.TempDir()
	err := mount.FS{
		Type: "erofs", Source: device, Options: []mount.Option{{Key: "ro"}}, Attr: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOSUID,
	}.At(target)
	if err != nil {
		t.Fatal(err)
	}
	wantFile(t, target+"/big", string(bigData()))
	wantFile(t, target+"/dir/note", secretText)
	if err := unix.Unmount(target, 0); err != nil {
		t.Error(err)
	}
}

func digestOf(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}
