// SPDX-License-Identifier: Apache-2.0

package debimage

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"
)

// maxFile bounds one file of a package.
const maxFile = 256 << 20

// A node is a file of a layer.
type node struct {
	header  tar.Header
	content []byte
}

// fileset is the content of a layer: at most one node for each path. It is written in the order of the paths, with
// nothing in the headers that depends on when or where it is made.
type fileset struct {
	nodes map[string]*node
	epoch time.Time // for the nodes that come from no package
}

func newFileset() *fileset {
	return &fileset{nodes: map[string]*node{}, epoch: time.Unix(0, 0)}
}

// addTar adds the files of a package for which keep says yes. A file that another package brought is an error;
// directories are shared.
func (s *fileset) addTar(r io.Reader, keep func(name string) bool) error {
	tr := tar.NewReader(r)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading a package: %w", err)
		}
		name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
		if name == "" || !keep(name) {
			continue
		}
		if h.Size > maxFile {
			return fmt.Errorf("reading a package: %s has %d bytes, expected at most %d", name, h.Size, maxFile)
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return fmt.Errorf("reading %s: %w", name, err)
		}
		if h.Typeflag == tar.TypeLink {
			h.Linkname = strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
		}
		err = s.add(name, *h, content)
		if err != nil {
			return err
		}
	}
}

func (s *fileset) add(name string, h tar.Header, content []byte) error {
	if old, ok := s.nodes[name]; ok {
		if old.header.Typeflag == tar.TypeDir && h.Typeflag == tar.TypeDir {
			return nil
		}
		return fmt.Errorf("adding %s: it is there already", name)
	}
	s.nodes[name] = &node{content: content, header: tar.Header{
		Typeflag: h.Typeflag, Linkname: h.Linkname, Mode: h.Mode & 0o7777, Uid: h.Uid, Gid: h.Gid,
		Size: int64(len(content)), ModTime: h.ModTime.Truncate(time.Second), Devmajor: h.Devmajor, Devminor: h.Devminor,
		PAXRecords: h.PAXRecords,
	}}
	return nil
}

// dir, file and symlink add nodes of our own; a path that is there already is replaced.
func (s *fileset) dir(name string, mode int64, uid, gid int) {
	s.put(name, tar.Header{Typeflag: tar.TypeDir, Mode: mode, Uid: uid, Gid: gid}, nil)
}

func (s *fileset) file(name string, mode int64, content string) {
	s.put(name, tar.Header{Typeflag: tar.TypeReg, Mode: mode}, []byte(content))
}

func (s *fileset) symlink(name, target string) {
	s.put(name, tar.Header{Typeflag: tar.TypeSymlink, Mode: 0o777, Linkname: target}, nil)
}

func (s *fileset) put(name string, h tar.Header, content []byte) {
	h.ModTime = s.epoch
	h.Size = int64(len(content))
	s.nodes[name] = &node{header: h, content: content}
}

// tar returns the layer. Parent directories that nobody added are added, so that no reader has to invent them. A hard
// link that sorts before its target swaps roles with it, because readers need the target first.
func (s *fileset) tar() ([]byte, error) {
	s.addParents()
	names := slices.Sorted(maps.Keys(s.nodes))
	err := s.orderLinks(names)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range names {
		n := s.nodes[name]
		h := n.header
		h.Name = name
		if h.Typeflag == tar.TypeDir {
			h.Name += "/"
		}
		h.Format = tar.FormatPAX
		err = w.WriteHeader(&h)
		if err != nil {
			return nil, fmt.Errorf("writing %s: %w", name, err)
		}
		_, err = w.Write(n.content)
		if err != nil {
			return nil, fmt.Errorf("writing %s: %w", name, err)
		}
	}
	err = w.Close()
	if err != nil {
		return nil, fmt.Errorf("writing a layer: %w", err)
	}
	return b.Bytes(), nil
}

func (s *fileset) addParents() {
	for _, name := range slices.Collect(maps.Keys(s.nodes)) {
		for d := path.Dir(name); d != "."; d = path.Dir(d) {
			if s.nodes[d] == nil {
				s.dir(d, 0o755, 0, 0)
			}
		}
	}
}

func (s *fileset) orderLinks(names []string) error {
	for _, name := range names {
		n := s.nodes[name]
		if n.header.Typeflag != tar.TypeLink {
			continue
		}
		target := n.header.Linkname
		t := s.nodes[target]
		if t == nil {
			return fmt.Errorf("writing %s: the target %s of the hard link is not in the layer", name, target)
		}
		if target < name {
			continue
		}
		s.nodes[name], s.nodes[target] = t, n
		n.header.Linkname = name
		for _, other := range s.nodes {
			if other.header.Typeflag == tar.TypeLink && other.header.Linkname == target {
				other.header.Linkname = name
			}
		}
	}
	return nil
}
