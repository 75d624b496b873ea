// SPDX-License-Identifier: Apache-2.0

package share

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// rootID is the node of the directory itself (FUSE_ROOT_ID).
const rootID = 1

// maxNodes bounds what the guest may know at once.
const maxNodes = 1 << 18

// node is a name that the guest knows, or one on the way to it. Whatever has the name when it is used is meant.
type node struct {
	id       uint64
	parent   *node // nil for the root, and for a node that is gone
	name     string
	gone     bool // removed or replaced: the name is another's by now
	lookups  uint64
	children map[string]*node
}

// nodes are what the guest knows.
type nodes struct {
	byID map[uint64]*node
	last uint64
}

func newNodes() *nodes {
	return &nodes{byID: map[uint64]*node{rootID: {id: rootID}}, last: rootID}
}

// get returns a node that the guest knows.
func (n *nodes) get(id uint64) (*node, error) {
	x, ok := n.byID[id]
	if !ok {
		return nil, unix.ESTALE
	}
	return x, nil
}

// know counts that the guest learnt the name once more.
func (n *nodes) know(parent *node, name string) (*node, error) {
	x := parent.children[name]
	if x == nil {
		if len(n.byID) >= maxNodes {
			return nil, unix.ENFILE
		}
		n.last++
		x = &node{id: n.last, parent: parent, name: name}
		n.byID[x.id] = x
		if parent.children == nil {
			parent.children = map[string]*node{}
		}
		parent.children[name] = x
	}
	x.lookups++
	return x, nil
}

// forget undoes count times know. What the guest does not know any more it can not name, except on the way to what it knows: that
// stays, and counts.
func (n *nodes) forget(id, count uint64) {
	x := n.byID[id]
	if x == nil || x.id == rootID {
		return
	}
	x.lookups -= min(count, x.lookups)
	n.drop(x)
}

// drop removes a node that nobody needs, and those on the way to it that were needed for it alone.
func (n *nodes) drop(x *node) {
	for x != nil && x.id != rootID && x.lookups == 0 && len(x.children) == 0 {
		delete(n.byID, x.id)
		parent := x.parent
		if parent != nil {
			delete(parent.children, x.name)
		}
		x = parent
	}
}

// remove is told that a name in a directory was removed. What was below it is out of reach, and stays until it is forgotten.
func (n *nodes) remove(dir *node, name string) {
	n.drop(dir.detach(name))
	n.drop(dir)
}

// detach takes what has a name out of reach, and returns it: nil if nothing has it.
func (x *node) detach(name string) *node {
	child := x.children[name]
	if child != nil {
		child.gone, child.parent = true, nil
		delete(x.children, name)
	}
	return child
}

// move is told that a name in a directory was renamed.
func (n *nodes) move(from *node, name string, to *node, as string) {
	if from == to && name == as {
		return
	}
	replaced, child := to.detach(as), from.children[name]
	if child != nil {
		delete(from.children, name)
		child.parent, child.name = to, as
		if to.children == nil {
			to.children = map[string]*node{}
		}
		to.children[as] = child
	}
	for _, x := range []*node{replaced, from, to} {
		n.drop(x)
	}
}

// path is where the node lies below the directory.
func (x *node) path() (string, error) {
	if x.id == rootID {
		return ".", nil
	}
	var names []string
	length := 0
	for ; x.id != rootID; x = x.parent {
		length += len(x.name) + 1
		if x.gone {
			return "", unix.ESTALE
		}
		if length >= unix.PathMax {
			return "", unix.ENAMETOOLONG
		}
		names = append(names, x.name)
	}
	slices.Reverse(names)
	return strings.Join(names, "/"), nil
}

// maxLookupTries bounds the retries of a path look-up that a rename disturbed.
const maxLookupTries = 64

// openAt opens a path below dir. The kernel resolves it, and follows no symbolic link; with O_PATH the last one may be a link
// itself.
func openAt(dir int, path string, flags int, mode uint32) (int, error) {
	how := unix.OpenHow{
		Flags: uint64(flags) | unix.O_NOFOLLOW | unix.O_CLOEXEC, Mode: uint64(mode), // flags are constants
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	}
	for range maxLookupTries {
		fd, err := unix.Openat2(dir, path, &how)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		return fd, err
	}
	return -1, unix.EBUSY
}

// locate opens whatever has the node's name, without reading or writing it, and says what it is.
func (s *server) locate(id uint64, kind int) (int, *node, *unix.Stat_t, error) {
	x, err := s.nodes.get(id)
	if err != nil {
		return -1, nil, nil, err
	}
	fd := -1
	p, err := x.path()
	if err == nil {
		fd, err = openAt(s.root, p, unix.O_PATH|kind, 0)
	}
	if err != nil && kind == 0 {
		fd, err = s.handles.held(id)
	}
	if err != nil {
		return -1, nil, nil, err
	}
	var st unix.Stat_t
	err = unix.Fstat(fd, &st)
	if err != nil {
		return -1, nil, nil, errors.Join(err, unix.Close(fd))
	}
	return fd, x, &st, nil
}

// directory opens the directory that a request names.
func (s *server) directory(r *request) (int, *node, error) {
	fd, x, _, err := s.locate(r.node, unix.O_DIRECTORY)
	return fd, x, err
}

// reopen opens what an O_PATH handle stands for.
func reopen(fd, flags int) (int, error) {
	return unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), flags|unix.O_CLOEXEC|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
}

// offset checks a number that the kernel takes as signed.
func offset(v uint64) (int64, error) {
	if v > math.MaxInt64 {
		return 0, unix.EINVAL
	}
	return int64(v), nil
}
