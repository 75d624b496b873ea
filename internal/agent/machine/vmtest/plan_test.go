// SPDX-License-Identifier: Apache-2.0

package vmtest

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/Microsoft/hcsshim/ext4/dmverity"
	"github.com/Microsoft/hcsshim/ext4/tar2ext4"

	"cofferdam.dev/internal/guestimage/scratchfmt"
	"cofferdam.dev/internal/verity"
)

// layerPlan is what a policy would say about a layer.
type layerPlan struct {
	Root   string
	Blocks uint64
}

type plan struct {
	Layers map[string]layerPlan // by serial number of the disk
	Sealed sealedPlan
	Only   string // part of the names of the tests to run
}

const (
	manyLayers = 40
	bigSize    = 1 << 20
	secretText = "cofferdam-plaintext-marker-that-must-not-reach-the-disk\n"
)

// bigData is the content of the file "big": reproducible, so that the guest knows it too.
func bigData() []byte {
	b := make([]byte, bigSize)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b) // never fails
	return b
}

func file(name, content string, mode int64) (tar.Header, []byte) {
	return tar.Header{Name: name, Typeflag: tar.TypeReg, Mode: mode, Size: int64(len(content))}, []byte(content)
}

type archive struct {
	t *testing.T
	b bytes.Buffer
	w *tar.Writer
}

func newArchive(t *testing.T) *archive {
	a := &archive{t: t}
	a.w = tar.NewWriter(&a.b)
	return a
}

func (a *archive) add(h tar.Header, content []byte) *archive {
	a.t.Helper()
	if h.Mode == 0 {
		h.Mode = 0o755
	}
	if err := a.w.WriteHeader(&h); err != nil {
		a.t.Fatal(err)
	}
	if _, err := a.w.Write(content); err != nil {
		a.t.Fatal(err)
	}
	return a
}

// layer converts the archive into a layer disk at path.
func (a *archive) layer(path string) layerPlan {
	a.t.Helper()
	if err := a.w.Close(); err != nil {
		a.t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		a.t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a failure shows when the disk is read
	err = tar2ext4.Convert(&a.b, f, tar2ext4.ConvertWhiteout, tar2ext4.AppendDMVerity, tar2ext4.MaximumDiskSize(128<<30))
	if err != nil {
		a.t.Fatal(err)
	}
	size, _, err := tar2ext4.Ext4FileSystemSize(seekStart(a.t, f))
	if err != nil {
		a.t.Fatal(err)
	}
	info, err := dmverity.ReadDMVerityInfo(path, size)
	if err != nil {
		a.t.Fatal(err)
	}
	return layerPlan{Root: info.RootDigest, Blocks: info.DataBlocks}
}

func seekStart(t *testing.T, f *os.File) *os.File {
	t.Helper()
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	return f
}

func dir(name string, mode int64) (tar.Header, []byte) {
	return tar.Header{Name: name + "/", Typeflag: tar.TypeDir, Mode: mode}, nil
}

func baseArchive(t *testing.T) *archive {
	a := newArchive(t)
	a.add(dir("dir", 0o755)).add(file("dir/old", "old\n", 0o644)).add(file("dir/kept", "kept\n", 0o644))
	a.add(dir("opaque", 0o755)).add(file("opaque/hidden", "hidden\n", 0o644))
	a.add(file("gone", "gone\n", 0o644)).add(file("changed", "base\n", 0o644)).add(file("setuid", "x", 0o4755))
	a.add(file("big", string(bigData()), 0o644))
	a.add(tar.Header{Name: "null", Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, nil)
	a.add(tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "changed", Mode: 0o777}, nil)
	return a
}

func topArchive(t *testing.T) *archive {
	a := newArchive(t)
	a.add(dir(".", 0o750))
	a.add(file(".wh.gone", "", 0o644)).add(file("changed", "top\n", 0o600))
	a.add(dir("dir", 0o700)).add(file("dir/.wh.old", "", 0o644)).add(file("dir/new", "new\n", 0o644))
	a.add(dir("opaque", 0o755)).add(file("opaque/.wh..wh..opq", "", 0o644)).add(file("opaque/shown", "shown\n", 0o644))
	return a
}

// makePlan makes all disks of the machine in dir.
func makePlan(t *testing.T, dir string) (plan, []disk) {
	t.Helper()
	p := plan{Layers: map[string]layerPlan{}}
	var disks []disk
	path := func(serial string) string { return filepath.Join(dir, serial+".img") }
	add := func(serial string, l layerPlan) {
		p.Layers[serial] = l
		disks = append(disks, disk{serial: serial, path: path(serial)})
	}
	base := baseArchive(t).layer(path("base"))
	add("base", base)
	add("top", topArchive(t).layer(path("top")))
	for i := range manyLayers {
		serial := fmt.Sprintf("many%d", i)
		a := newArchive(t).add(file(fmt.Sprintf("n%d", i), "", 0o644)).add(file("last", fmt.Sprint(i), 0o644))
		add(serial, a.layer(path(serial)))
	}
	for serial, damage := range damages(t, base) {
		b, err := os.ReadFile(path("base"))
		if err != nil {
			t.Fatal(err)
		}
		damage(b)
		writeFile(t, path(serial), b)
		add(serial, base)
	}
	writeForged(t, path("base"), path("forged"), base, &p)
	disks = append(disks, disk{serial: "forged", path: path("forged")})
	b, err := os.ReadFile(path("base"))
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path("live"), b)
	p.Layers["live"] = base
	disks = append(disks, disk{serial: "live", path: path("live"), writable: true})
	p.Sealed = writeSealed(t, path(sealedSerial))
	disks = append(disks, disk{serial: sealedSerial, path: path(sealedSerial), writable: true})
	sizes := map[string]int64{
		"scratch-a": scratchfmt.Classes()[0].DiskBytes(), "scratch-b": scratchfmt.Classes()[0].DiskBytes(),
		"scratch-1g": scratchfmt.Classes()[2].DiskBytes(), "scratch-small": 8 << 20,
	}
	for serial, size := range sizes {
		writeFile(t, path(serial), []byte("left over from before"))
		if err := os.Truncate(path(serial), size); err != nil {
			t.Fatal(err)
		}
		disks = append(disks, disk{serial: serial, path: path(serial), writable: true})
	}
	return p, disks
}

// damages are what a host could do to the disk of a layer.
func damages(t *testing.T, base layerPlan) map[string]func([]byte) {
	end := int(base.Blocks) * verity.BlockSize
	return map[string]func([]byte){
		"flipped-data": func(b []byte) {
			at := bytes.Index(b, bigData()[bigSize/2:bigSize/2+32])
			if at < 0 {
				t.Fatal("the file's data are not in the layer")
			}
			b[at] ^= 1
		},
		"flipped-super":  func(b []byte) { b[verity.Ext4SuperblockOffset+0x80] ^= 1 },
		"flipped-tree":   func(b []byte) { b[end+verity.BlockSize] ^= 1 },
		"sb-version":     func(b []byte) { b[end+8] = 2 },
		"sb-blocks":      func(b []byte) { b[end+72]++ },
		"sb-gone":        func(b []byte) { clear(b[end : end+verity.BlockSize]) },
		"sb-other-salt":  func(b []byte) { b[end+88] = 1 },
		"not-a-layer-at": func(b []byte) { clear(b) },
	}
}

// writeForged makes a disk whose tree and superblock cover one block more than its filesystem has.
func writeForged(t *testing.T, from, to string, base layerPlan, p *plan) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	blocks := base.Blocks + 1
	data := append(b[:base.Blocks*verity.BlockSize:base.Blocks*verity.BlockSize], make([]byte, verity.BlockSize)...)
	writeFile(t, to, append(data, verity.Superblock{DataBlocks: blocks}.Marshal()...))
	f, err := os.OpenFile(to, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck // a failure shows when the disk is read
	root, err := verity.Build(context.Background(), f, blocks, f, int64(blocks+1)*verity.BlockSize)
	if err != nil {
		t.Fatal(err)
	}
	p.Layers["forged"] = layerPlan{Root: hex.EncodeToString(root[:]), Blocks: blocks}
}

func writeFile(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// checkDisksAfterwards looks for what the guest wrote, as the host could.
func checkDisksAfterwards(t *testing.T, dir string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "scratch-a.img"))
	if err != nil {
		t.Fatal(err)
	}
	written := 0
	for at := 0; at < len(b); at += 4096 {
		if !bytes.Equal(b[at:min(at+4096, len(b))], make([]byte, min(4096, len(b)-at))) {
			written++
		}
	}
	if written < 256 {
		t.Errorf("only %d blocks of the scratch disk were written", written)
	}
	if bytes.Contains(b, []byte(secretText[:16])) {
		t.Error("the scratch disk holds plaintext")
	}
	if bytes.Contains(b, []byte("lost+found")) {
		t.Error("the scratch disk holds names of its filesystem in clear")
	}
}
