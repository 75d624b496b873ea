// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
)

// TreeRoot is the directory in the layers7 image whose content is compared with an independent unpacking.
const TreeRoot = "tree"

const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// layers7 makes the upper six layers of the layers7 image. Between them they do everything that a layer can do to the
// ones below it: add, replace, change into another type, remove, hide a whole directory, bring back.
func layers7() ([]*fileset, error) {
	builders := []func(*fileset){treeFiles, treeOverwrite, treeRemove, treeOpaque, treeTypes, treeReturn}
	var sets []*fileset
	for _, build := range builders {
		s := newFileset()
		s.dir(TreeRoot, 0o755, 0, 0)
		build(s)
		sets = append(sets, s)
	}
	return sets, nil
}

// in returns a path below the tree.
func in(name string) string { return TreeRoot + "/" + name }

// treeFiles brings one of every kind of file.
func treeFiles(s *fileset) {
	s.dir("tmp", 0o1777, 0, 0)
	s.file(in("plain"), 0o644, "plain\n")
	s.file(in("empty"), 0o600, "")
	s.file(in("two words"), 0o644, "a name with a space\n")
	s.file(in("größe-日本"), 0o644, "a name beyond ASCII\n")
	s.file(in(strings.Repeat("n", 255)), 0o644, "the longest name\n")
	s.file(in(strings.Repeat("deep/", 40)+"file"), 0o644, "a long path\n")
	s.put(in("setuid"), tar.Header{Typeflag: tar.TypeReg, Mode: 0o4755}, []byte("#!/bin/sh\nid\n"))
	s.put(in("setgid"), tar.Header{Typeflag: tar.TypeReg, Mode: 0o2755, Uid: 1000, Gid: 1000}, []byte("#!/bin/sh\nid\n"))
	s.put(in("owned"), tar.Header{Typeflag: tar.TypeReg, Mode: 0o640, Uid: 70000, Gid: 4000000000}, []byte("large IDs\n"))
	s.put(in("attributes"), tar.Header{Typeflag: tar.TypeReg, Mode: 0o644, PAXRecords: map[string]string{
		"SCHILY.xattr.user.origin": "layers7",
		"SCHILY.xattr.user.large":  strings.Repeat("x", 512),
	}}, []byte("extended attributes\n"))
	s.dir(in("sticky"), 0o1777, 0, 0)
	s.dir(in("private"), 0o700, 1000, 1000)
	s.put(in("fifo"), tar.Header{Typeflag: tar.TypeFifo, Mode: 0o622}, nil)
	s.put(in("null"), tar.Header{Typeflag: tar.TypeChar, Mode: 0o666, Devmajor: 1, Devminor: 3}, nil)
	s.file(in("blob"), 0o444, string(noise(3<<20+17)))
	s.file(in("links/a"), 0o644, "one inode\n")
	for _, name := range []string{"b", "c"} {
		s.put(in("links/"+name), tar.Header{Typeflag: tar.TypeLink, Linkname: in("links/a")}, nil)
	}
	s.symlink(in("links/relative"), "../plain")
	s.symlink(in("links/absolute"), "/tree/plain")
	s.symlink(in("links/dangling"), "nowhere")
	s.symlink(in("links/long"), strings.Repeat("x", 200))
	for i := range 50 {
		s.file(in(fmt.Sprintf("many/%02d", i)), 0o644, fmt.Sprintf("file %d\n", i))
	}
	for _, d := range []string{"gone", "hidden", "mixed", "swap-to-file"} {
		s.dir(in(d), 0o755, 0, 0)
		s.file(in(d+"/one"), 0o644, d+" one\n")
		s.file(in(d+"/sub/two"), 0o644, d+" two\n")
	}
	s.file(in("swap-to-dir"), 0o644, "a file for now\n")
	s.file(in("swap-to-link"), 0o644, "a file for now\n")
	s.file(in("comes-back"), 0o644, "first life\n")
}

// treeOverwrite replaces files and metadata.
func treeOverwrite(s *fileset) {
	s.file(in("plain"), 0o600, "replaced\n")
	s.dir(in("private"), 0o750, 1000, 1001)
	s.file(in("private/late"), 0o644, "added to a directory of a lower layer\n")
	s.dir(in("many"), 0o755, 0, 0)
	s.file(in("many/07"), 0o644, "seven\n")
	s.dir(in("mixed"), 0o711, 0, 0)
	s.file(in("mixed/three"), 0o644, "mixed three\n")
}

// treeRemove removes single files, one name of a hard link, and a directory.
func treeRemove(s *fileset) {
	s.file(in(whiteout+"gone"), 0, "")
	s.file(in(whiteout+"comes-back"), 0, "")
	s.dir(in("links"), 0o755, 0, 0)
	s.file(in("links/"+whiteout+"b"), 0, "")
	s.dir(in("many"), 0o755, 0, 0)
	for _, n := range []string{"00", "13", "49"} {
		s.file(in("many/"+whiteout+n), 0, "")
	}
	s.dir(in("mixed"), 0o711, 0, 0)
	s.dir(in("mixed/sub"), 0o755, 0, 0)
	s.file(in("mixed/sub/"+whiteout+"two"), 0, "")
}

// treeOpaque hides what a directory held and puts something else there.
func treeOpaque(s *fileset) {
	s.dir(in("hidden"), 0o751, 5, 6)
	s.file(in("hidden/"+opaque), 0, "")
	s.file(in("hidden/new"), 0o644, "hidden new\n")
	s.dir(in("hidden/sub"), 0o755, 0, 0)
	s.file(in("hidden/sub/"+opaque), 0, "")
}

// treeTypes changes files into other kinds of file.
func treeTypes(s *fileset) {
	s.dir(in("swap-to-dir"), 0o755, 0, 0)
	s.file(in("swap-to-dir/inside"), 0o644, "inside\n")
	s.file(in("swap-to-file"), 0o644, "was a directory\n")
	s.symlink(in("swap-to-link"), "plain")
	s.dir(in("links"), 0o755, 0, 0)
	s.file(in("links/pair-1"), 0o644, "a pair in an upper layer\n")
	s.put(in("links/pair-2"), tar.Header{Typeflag: tar.TypeLink, Linkname: in("links/pair-1")}, nil)
}

// treeReturn brings back what lower layers removed.
func treeReturn(s *fileset) {
	s.file(in("comes-back"), 0o644, "second life\n")
	s.dir(in("gone"), 0o700, 0, 0)
	s.file(in("gone/three"), 0o644, "gone three\n")
	s.dir(in("hidden"), 0o751, 5, 6)
	s.file(in("hidden/one"), 0o644, "hidden one, again\n")
}

// noise returns n bytes that do not compress and are the same every time.
func noise(n int) []byte {
	var b bytes.Buffer
	for i := uint64(0); b.Len() < n; i++ {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, i))
		b.Write(sum[:])
	}
	return b.Bytes()[:n]
}
