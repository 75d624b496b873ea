// SPDX-License-Identifier: Apache-2.0

package share

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

// TestPinnedNodesCount forgets the directories above a name over and over: what stays of them must count, or go.
func TestPinnedNodesCount(t *testing.T) {
	t.Parallel()
	n := newNodes()
	root := n.byID[rootID]
	for i := range 100 {
		at := root
		for depth := range 20 {
			next, err := n.know(at, strconv.Itoa(depth))
			if err != nil {
				t.Fatal(err)
			}
			if at != root {
				n.forget(at.id, 1)
			}
			at = next
		}
		leaf, err := n.know(at, "leaf"+strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		n.forget(at.id, 1)
		if p, err := leaf.path(); err != nil || len(p) < 40 {
			t.Fatalf("the leaf lies at %q, %v", p, err)
		}
	}
	if got := reachable(n); got != len(n.byID) || got != 1+20+100 {
		t.Errorf("%d nodes are in memory, %d are counted, want %d", got, len(n.byID), 1+20+100)
	}
	for id, x := range n.byID {
		if x.lookups > 0 {
			n.forget(id, x.lookups)
		}
	}
	if len(n.byID) != 1 || len(root.children) != 0 {
		t.Errorf("%d nodes are left when all are forgotten", len(n.byID))
	}
}

// reachable counts the nodes that are in memory.
func reachable(n *nodes) int {
	seen := map[*node]bool{}
	var visit func(x *node)
	visit = func(x *node) {
		if x == nil || seen[x] {
			return
		}
		seen[x] = true
		visit(x.parent)
		for _, c := range x.children {
			visit(c)
		}
	}
	for _, x := range n.byID {
		visit(x)
	}
	return len(seen)
}

// TestNodesModel draws what a guest may do with names: all that is in memory counts, and all goes when it is forgotten.
func TestNodesModel(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c"}
	rapid.Check(t, func(t *rapid.T) {
		n := newNodes()
		some := func() *node {
			id := rapid.Uint64Range(1, n.last).Draw(t, "node")
			if x := n.byID[id]; x != nil {
				return x
			}
			return n.byID[rootID]
		}
		name := func() string { return rapid.SampledFrom(names).Draw(t, "name") }
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "do") {
			case 0, 1, 2:
				x := some()
				if _, err := x.path(); err == nil { // else the kernel has no such directory
					_, err = n.know(x, name())
					if err != nil {
						t.Fatal(err)
					}
				}
			case 3:
				n.forget(some().id, 1)
			case 4:
				n.remove(some(), name())
			case 5:
				n.move(some(), name(), some(), name())
			}
			if got := reachable(n); got != len(n.byID) {
				t.Fatalf("%d nodes are in memory, %d are counted", got, len(n.byID))
			}
			for _, x := range n.byID {
				_, _ = x.path() // ends
			}
		}
	})
}

// TestOpenDirectoriesAreBounded opens a directory often, and reads it each time.
func TestOpenDirectoriesAreBounded(t *testing.T) {
	t.Parallel()
	s := &server{nodes: newNodes(), handles: handles{}, listed: maxListed - 5}
	dir := t.TempDir()
	for i := range 3 {
		err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600)
		if err != nil {
			t.Fatal(err)
		}
	}
	open := func() *handle {
		f, err := os.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return &handle{file: f}
	}
	h := open()
	for range 3 { // the same one again takes no more
		if err := s.list(h); err != nil || len(h.entries) != 3 || s.listed != maxListed-2 {
			t.Fatalf("%d entries, %d in all, %v", len(h.entries), s.listed, err)
		}
	}
	if err := s.list(open()); !errors.Is(err, unix.ENFILE) || s.listed != maxListed-2 {
		t.Errorf("one more: %d in all, %v", s.listed, err)
	}
	s.handles[1] = h
	r := request{body: fields{b: make([]byte, 24)}}
	binary.NativeEndian.PutUint64(r.body.b, 1)
	if _, err := s.release(&r); err != nil || s.listed != maxListed-5 {
		t.Errorf("released: %d in all, %v", s.listed, err)
	}
}

// TestPrivilegedPrograms are not written to: whoever started one later would run what the guest likes.
func TestPrivilegedPrograms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "su")
	err := errors.Join(os.WriteFile(path, []byte("program"), 0o755), os.Chmod(path, 0o755|os.ModeSetuid))
	if err != nil {
		t.Fatal(err)
	}
	g := served(t, dir, false).begin()
	su := g.lookup("su")
	size := append(message(opSetattr, su, uint32(setSize), uint32(0), uint64(0), uint64(1)), make([]byte, 64)...)
	binary.NativeEndian.PutUint32(size, uint32(len(size)))
	for what, m := range map[string][]byte{
		"opened":    message(opOpen, su, uint32(unix.O_WRONLY), uint32(0)),
		"created":   message(opCreate, rootID, uint32(unix.O_RDWR), uint32(0o644), uint32(0), uint32(0), "su"),
		"emptied":   message(opCreate, rootID, uint32(unix.O_RDONLY|unix.O_TRUNC), uint32(0o644), uint32(0), uint32(0), "su"),
		"truncated": size,
	} {
		if e, _ := g.ask(m); e != unix.EACCES {
			t.Errorf("%s: %v, want %v", what, e, unix.EACCES)
		}
	}
	if e, _ := g.ask(message(opOpen, su, uint32(unix.O_RDONLY), uint32(0))); e != 0 {
		t.Errorf("read: %v", e)
	}
	info, err := os.Stat(path)
	b, readErr := os.ReadFile(path)
	if err != nil || readErr != nil || info.Mode()&os.ModeSetuid == 0 || string(b) != "program" {
		t.Errorf("the program is %v, %q", info.Mode(), b)
	}
}
