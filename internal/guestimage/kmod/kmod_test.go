// SPDX-License-Identifier: Apache-2.0

package kmod

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/ulikunitz/xz"
)

// module is a minimal relocatable ELF file with a .modinfo section.
func module(info ...string) []byte {
	le := binary.LittleEndian
	text := strings.Join(info, "\x00") + "\x00"
	names := "\x00.modinfo\x00.shstrtab\x00"
	data := text + names
	b := append([]byte("\x7fELF\x02\x01\x01"), make([]byte, 9)...)
	b = le.AppendUint16(b, 1)  // ET_REL
	b = le.AppendUint16(b, 62) // EM_X86_64
	b = le.AppendUint32(b, 1)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint64(b, 0)
	b = le.AppendUint64(b, uint64(64+len(data))) // section headers
	b = le.AppendUint32(b, 0)
	for _, v := range []uint16{64, 0, 0, 64, 3, 2} {
		b = le.AppendUint16(b, v)
	}
	b = append(b, data...)
	b = append(b, make([]byte, 64)...) // the null section
	section := func(name, kind uint32, offset, size int) {
		b = le.AppendUint32(b, name)
		b = le.AppendUint32(b, kind)
		for _, v := range []uint64{0, 0, uint64(offset), uint64(size)} {
			b = le.AppendUint64(b, v)
		}
		b = append(b, make([]byte, 8)...)
		b = le.AppendUint64(b, 1)
		b = le.AppendUint64(b, 0)
	}
	section(1, 1, 64, len(text))
	section(10, 3, 64+len(text), len(names))
	return b
}

// tree writes modules and returns them opened. Names with ".xz" are compressed.
func tree(t *testing.T, files map[string][]byte, builtin string) *Tree {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "modules.builtin"), []byte(builtin), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		path := filepath.Join(dir, "kernel", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, ".xz") {
			var b bytes.Buffer
			w, err := xz.WriterConfig{DictCap: 1 << 20, CheckSum: xz.CRC32}.NewWriter(&b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			data = b.Bytes()
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	opened, err := OpenTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

func TestResolve(t *testing.T) {
	t.Parallel()
	files := map[string][]byte{
		"drivers/md/dm-mod.ko.xz":       module("license=GPL", "depends="),
		"drivers/md/dm-bufio.ko.xz":     module("depends=dm-mod"),
		"drivers/md/dm-verity.ko.xz":    module("depends=dm-mod,dm-bufio"),
		"drivers/net/virtio_net.ko":     module("softdep=pre: gone_soft failover post: later", "depends=net_failover"),
		"net/failover.ko":               module("depends="),
		"drivers/net/net_failover.ko":   module("depends=failover"),
		"drivers/bad/loop-a.ko":         module("depends=loop-b"),
		"drivers/bad/loop-b.ko":         module("depends=loop-a"),
		"drivers/bad/wants-absent.ko":   module("depends=absent"),
		"drivers/bad/not-elf.ko":        []byte("module"),
		"drivers/bad/broken-stream.ko":  nil,
		"drivers/virtio/uses_builtin.o": nil,
		"drivers/virtio/user.ko":        module("depends=virtio-ring"),
	}
	for name, c := range map[string]struct {
		names  []string
		except map[string]bool
		want   []string
		fails  bool
	}{
		"needs come first":          {names: []string{"dm_verity"}, want: []string{"dm_mod", "dm_bufio", "dm_verity"}},
		"each once":                 {names: []string{"dm_bufio", "dm_verity", "dm_mod"}, want: []string{"dm_mod", "dm_bufio", "dm_verity"}},
		"built in is left out":      {names: []string{"user", "virtio_ring"}, want: []string{"user"}},
		"excepted is left out":      {names: []string{"dm_verity"}, except: map[string]bool{"dm_mod": true}, want: []string{"dm_bufio", "dm_verity"}},
		"soft need may be missing":  {names: []string{"virtio_net"}, want: []string{"failover", "net_failover", "virtio_net"}},
		"unknown":                   {names: []string{"absent"}, fails: true},
		"hard need is missing":      {names: []string{"wants_absent"}, fails: true},
		"circle":                    {names: []string{"loop_a"}, fails: true},
		"not ELF":                   {names: []string{"not_elf"}, fails: true},
		"empty file":                {names: []string{"broken_stream"}, fails: true},
		"not a module":              {names: []string{"uses_builtin"}, fails: true},
		"nothing asked, none given": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := tree(t, files, "kernel/drivers/virtio/virtio_ring.ko\n").Resolve(c.names, c.except)
			if c.fails != (err != nil) || (c.fails && !errors.Is(err, ErrModule)) {
				t.Fatalf("error is %v, want one: %v", err, c.fails)
			}
			var names []string
			for _, m := range got {
				names = append(names, m.Name)
			}
			if diff := cmp.Diff(c.want, names); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnpacksWhole(t *testing.T) {
	t.Parallel()
	want := module("depends=", "pad="+strings.Repeat("x", 3<<20))
	got, err := tree(t, map[string][]byte{"a.ko.xz": want}, "").Resolve([]string{"a"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got[0].Data, want) {
		t.Error("unpacked module is not the packed one")
	}
}

func FuzzReadNeeds(f *testing.F) {
	f.Add(module("depends=a,b", "softdep=pre: c post: d"))
	f.Add(module())
	f.Fuzz(func(t *testing.T, b []byte) {
		needs, err := ReadNeeds(b)
		if err != nil {
			return
		}
		for _, n := range append(needs.Hard, needs.Soft...) {
			if n == "" || strings.ContainsAny(n, "-,\x00") {
				t.Errorf("name %q", n)
			}
		}
	})
}
