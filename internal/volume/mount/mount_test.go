// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
	"cofferdam.dev/internal/volume/anchor"
	"cofferdam.dev/internal/volume/attach"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/descriptor"
	"cofferdam.dev/internal/volume/fusefile"
)

// image is a volume in a file, and all that opens it.
type image struct {
	path    string
	d       *descriptor.Descriptor
	key     descriptor.Key
	records *anchor.Dir
}

func newImage(t testing.TB, kind descriptor.Kind, size int64) *image {
	t.Helper()
	dir := t.TempDir()
	i := &image{path: filepath.Join(dir, "image")}
	n := attach.New{Kind: kind, Size: size, Now: time.Now(), Anchor: descriptor.Anchor{Kind: descriptor.NoAnchor},
		Openers: []attach.Opener{{Slot: descriptor.Slot{Kind: descriptor.FileSlot}, Secret: bytes.Repeat([]byte("0123456789abcdef"), 2)}}}
	var err error
	if kind == descriptor.Shadow {
		if i.records, err = anchor.NewDir(filepath.Join(dir, "anchors")); err != nil {
			t.Fatal(err)
		}
		n.Anchor.Kind, n.Records = descriptor.FileAnchor, i.records
	}
	length, err := n.ImageSize()
	if err == nil {
		err = errors.Join(os.WriteFile(i.path, nil, 0o600), os.Truncate(i.path, length))
	}
	if err != nil {
		t.Fatal(err)
	}
	if i.d, i.key, err = attach.Create(t.Context(), i.path, n); err != nil {
		t.Fatal(err)
	}
	return i
}

func (i *image) open(t testing.TB, write bool) *attach.Volume {
	t.Helper()
	src, err := blob.Open(t.Context(), i.path, blob.Options{Write: write})
	if err != nil {
		t.Fatal(err)
	}
	o := attach.Options{Descriptor: i.d, Key: i.key, Write: write}
	if i.records != nil {
		o.Anchor = i.records
	}
	v, err := attach.Open(t.Context(), src, o)
	if err != nil {
		t.Fatal(errors.Join(err, src.Close()))
	}
	return v
}

// format makes an ext4 filesystem in the volume, through the file that shows it.
func (i *image) format(t testing.TB) {
	t.Helper()
	i.program(t, true, "mke2fs", "-q", "-F", "-t", "ext4")
}

// program runs a program on the file that shows the volume, and returns what it says.
func (i *image) program(t testing.TB, write bool, args ...string) string {
	t.Helper()
	v := i.open(t, write)
	m, err := fusefile.Serve(t.TempDir(), v, fusefile.Options{Write: write})
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(args[0], append(args[1:], m.Path())...).CombinedOutput()
	if err := errors.Join(err, unshow(m), v.Close(context.WithoutCancel(t.Context()))); err != nil {
		t.Fatalf("%s: %v: %s", args[0], err, out)
	}
	return string(out)
}

// unshow ends a mount that others may have open for a moment: whoever looks at all that is mounted.
func unshow(m *fusefile.Mount) error {
	ctx, stop := context.WithTimeout(context.Background(), settle)
	defer stop()
	return again(ctx, m.Close)
}

func needs(t testing.TB) {
	t.Helper()
	testcap.Require(t, testcap.Root, testcap.FUSE, testcap.E2fsprogs, testcap.Loop)
}

func TestMount(t *testing.T) {
	t.Parallel()
	needs(t)
	for _, kind := range []descriptor.Kind{descriptor.LUKS2, descriptor.Shadow} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			i := newImage(t, kind, 32<<20)
			i.format(t)
			dir := t.TempDir()
			v := i.open(t, true)
			m, err := Mount(t.Context(), v, dir, Options{Write: true})
			if err != nil {
				t.Fatal(err)
			}
			content := bytes.Repeat([]byte("the canary sings in the mine"), 10000)
			if err := os.WriteFile(filepath.Join(dir, "file"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(m.Close(t.Context()), v.Close(t.Context())); err != nil {
				t.Fatal(err)
			}
			raw, err := os.ReadFile(i.path)
			if err != nil || bytes.Contains(raw, content[:28]) {
				t.Errorf("the image shows what is in it (%v)", err)
			}
			v = i.open(t, false)
			if m, err = Mount(t.Context(), v, dir, Options{}); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes (%v)", len(got), err)
			}
			if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); !errors.Is(err, unix.EROFS) {
				t.Errorf("writing what is only read: %v", err)
			}
			if err := errors.Join(m.Close(t.Context()), v.Close(t.Context())); err != nil {
				t.Fatal(err)
			}
			if out := i.program(t, false, "e2fsck", "-fn"); strings.Contains(out, "FIXED") {
				t.Error(out)
			}
		})
	}
}

// While somebody uses the filesystem it stays, and ends when they have ended.
func TestBusy(t *testing.T) {
	t.Parallel()
	needs(t)
	i := newImage(t, descriptor.Shadow, 16<<20)
	i.format(t)
	dir := t.TempDir()
	v := i.open(t, true)
	m, err := Mount(t.Context(), v, dir, Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(dir, "used"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := m.Close(ctx); !errors.Is(err, unix.EBUSY) {
		t.Errorf("closed under a user: %v", err)
	}
	if _, err := f.WriteString("still there"); err != nil {
		t.Error(err)
	}
	if err := errors.Join(f.Close(), m.Close(t.Context()), v.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// Whoever may can unmount it, and that is noticed.
func TestUnmountedByOthers(t *testing.T) {
	t.Parallel()
	needs(t)
	i := newImage(t, descriptor.Shadow, 16<<20)
	i.format(t)
	dir := t.TempDir()
	v := i.open(t, true)
	m, err := Mount(t.Context(), v, dir, Options{Write: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Unmount(dir, 0); err != nil {
		t.Fatal(err)
	}
	select {
	case <-m.Done():
	case <-time.After(time.Minute):
		t.Error("nobody notices")
	}
	if err := errors.Join(m.Close(t.Context()), v.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
}

// What holds no filesystem is refused before the kernel sees it, and nothing is left.
func TestNoFilesystem(t *testing.T) {
	t.Parallel()
	needs(t)
	i := newImage(t, descriptor.Shadow, 1<<20)
	v := i.open(t, true)
	defer func() { _ = v.Close(t.Context()) }()
	files := t.TempDir()
	if _, err := Mount(t.Context(), v, t.TempDir(), Options{Files: files}); err == nil {
		t.Error("an empty volume is mounted")
	}
	block := make([]byte, 4096)
	block[1080], block[1081] = 0x53, 0xEF // the magic number and nothing else
	if err := v.WriteAt(t.Context(), block, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := Mount(t.Context(), v, t.TempDir(), Options{Files: files}); err == nil {
		t.Error("a superblock of zeros is mounted")
	}
	if left, err := os.ReadDir(files); err != nil || len(left) > 0 {
		t.Errorf("%v is left (%v)", left, err)
	}
}
