// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strings"
	"time"
)

// ErrTooLarge says that a tree does not fit into an image: 16 TiB.
var ErrTooLarge = errors.New("the tree is too large for an image")

// Options say what of a tree is kept. The zero value keeps everything.
type Options struct {
	// Time, unless it is zero, is what all files were changed at.
	Time time.Time
	// Owner, if there is one, owns all files.
	Owner *Owner
	// NoXattrs leaves extended attributes out.
	NoXattrs bool
	// UUID and Label name the filesystem; the label has at most 16 bytes.
	UUID  [16]byte
	Label string
}

// Plan is where everything of a tree lies in an image.
type Plan struct {
	fsys   fs.FS
	opts   Options
	inodes []*inode // as they lie in the image: a directory's children together, directories before what is in them
	epoch  instant  // of files with compact inodes

	dirStart, dataStart, blocks uint32
	content                     int64
}

type instant struct {
	seconds     int64
	nanoseconds uint32
}

func instantOf(t time.Time) instant { return instant{t.Unix(), uint32(t.Nanosecond())} } // below 10⁹

func (i instant) compare(other instant) int {
	return cmp.Or(cmp.Compare(i.seconds, other.seconds), cmp.Compare(i.nanoseconds, other.nanoseconds))
}

// inode is a file: what is known of it, and then where it lies.
type inode struct {
	parent  *inode // its first name's; the root is its own
	name    string
	mode    uint16
	stat    Stat
	links   uint32
	size    int64
	mtime   instant
	changed time.Time // as the tree says, whatever the options
	xattrs  []byte    // encoded
	target  string    // of a symbolic link
	entries []dirent  // of a directory, sorted

	nid      uint64
	extended bool
	inline   bool
	start    uint32 // the first block of its data
}

type dirent struct {
	name  string
	inode *inode
}

func (i *inode) kind() uint16 { return i.mode & modeType }

func (i *inode) isDevice() bool { return i.kind() == modeCharacter || i.kind() == modeBlock }

// path is the file's name from the root of the tree.
func (i *inode) path() string {
	if i.parent == i {
		return "."
	}
	parts := []string{}
	for ; i.parent != i; i = i.parent {
		parts = append(parts, i.name)
	}
	slices.Reverse(parts)
	return strings.Join(parts, "/")
}

// Size is the size of the image in bytes, a multiple of BlockSize.
func (p *Plan) Size() int64 { return int64(p.blocks) * BlockSize }

// Files is how many files, directories and others the image has, the root among them.
func (p *Plan) Files() int { return len(p.inodes) }

// Content is how many bytes of regular files the image has.
func (p *Plan) Content() int64 { return p.content }

// NewPlan looks at all of a tree, and says where its files will lie. It reads no content. Symbolic links are kept as they
// are, for which the tree must be an fs.ReadLinkFS.
func NewPlan(ctx context.Context, fsys fs.FS, o Options) (*Plan, error) {
	p := &Plan{fsys: fsys, opts: o}
	err := p.walk(ctx)
	if err == nil {
		err = p.layout()
	}
	if err != nil {
		return nil, fmt.Errorf("planning an EROFS image: %w", err)
	}
	return p, nil
}

func (p *Plan) walk(ctx context.Context) error {
	if len(p.opts.Label) > 16 {
		return fmt.Errorf("a label of %d bytes, at most 16 are possible", len(p.opts.Label))
	}
	info, err := fs.Stat(p.fsys, ".")
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("the tree is not a directory")
	}
	root := &inode{}
	root.parent = root
	err = p.look(root, info)
	if err != nil {
		return err
	}
	p.inodes = []*inode{root}
	links := map[Link]*inode{}
	for next := 0; next < len(p.inodes); next++ { // grows meanwhile
		err = context.Cause(ctx)
		if err == nil && p.inodes[next].kind() == modeDir {
			err = p.children(p.inodes[next], links)
		}
		if err != nil {
			return err
		}
	}
	p.epoch = instantOf(p.opts.Time)
	if p.opts.Time.IsZero() {
		p.epoch = slices.MaxFunc(p.inodes, func(a, b *inode) int { return a.mtime.compare(b.mtime) }).mtime
	}
	return nil
}

// children looks at what is in a directory.
func (p *Plan) children(dir *inode, links map[Link]*inode) error {
	entries, err := fs.ReadDir(p.fsys, dir.path())
	if err != nil {
		return err
	}
	dir.entries = append(dir.entries, dirent{".", dir}, dirent{"..", dir.parent})
	dir.links = 2
	for _, e := range entries {
		name := e.Name()
		if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00") {
			return fmt.Errorf("%q has a name that no image can have", dir.path()+"/"+name)
		}
		child := &inode{parent: dir, name: name}
		info, err := e.Info()
		if err == nil {
			err = p.look(child, info)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", child.path(), err)
		}
		first := links[child.stat.Link]
		switch {
		case child.kind() == modeDir:
			dir.links++
		case first != nil:
			child = first
		case child.stat.Link != Link{}:
			links[child.stat.Link] = child
		}
		if child != first {
			p.inodes = append(p.inodes, child)
		}
		if child.kind() != modeDir {
			child.links++
		}
		dir.entries = append(dir.entries, dirent{name, child})
	}
	slices.SortFunc(dir.entries, func(a, b dirent) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(dir.entries); i++ {
		if dir.entries[i].name == dir.entries[i-1].name {
			return fmt.Errorf("%s has the name %q twice", dir.path(), dir.entries[i].name)
		}
	}
	dir.size = dirSize(dir.entries)
	return nil
}

// look takes over what is known of a file.
func (p *Plan) look(i *inode, info fs.FileInfo) error {
	mode, err := unixMode(info.Mode())
	if err != nil {
		return err
	}
	i.mode, i.stat, i.changed = mode, statOf(info), info.ModTime()
	i.mtime = instantOf(i.changed)
	if !p.opts.Time.IsZero() {
		i.mtime = instantOf(p.opts.Time)
	}
	if p.opts.Owner != nil {
		i.stat.UID, i.stat.GID = p.opts.Owner.UID, p.opts.Owner.GID
	}
	switch i.kind() {
	case modeRegular:
		i.size = info.Size()
		if i.size < 0 || i.size > math.MaxUint32*BlockSize {
			return fmt.Errorf("%w: a file of %d bytes", ErrTooLarge, i.size)
		}
	case modeSymlink:
		i.target, err = fs.ReadLink(p.fsys, i.path())
		if err == nil && (i.target == "" || len(i.target) >= BlockSize) {
			err = fmt.Errorf("a symbolic link to a name of %d bytes", len(i.target))
		}
		if err != nil {
			return err
		}
		i.size = int64(len(i.target))
	}
	if x, ok := p.fsys.(XattrFS); ok && !p.opts.NoXattrs {
		attrs, err := x.Xattrs(i.path())
		if err != nil {
			return err
		}
		i.xattrs, err = encodeXattrs(attrs)
		return err
	}
	return nil
}
