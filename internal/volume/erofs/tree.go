// SPDX-License-Identifier: Apache-2.0

package erofs

import (
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// Stat is what the Sys method of a tree's fs.FileInfo may return a pointer to; that of the operating system is understood as
// well. Of a tree with neither, everything belongs to the user and group 0, and no two names are of one file.
type Stat struct {
	UID, GID uint32
	// Major and Minor are the numbers of a device.
	Major, Minor uint32
	// Link is the same for all names of one file, and zero for a file with one name.
	Link Link
}

// Link tells the files of a tree apart.
type Link struct{ Device, Inode uint64 }

// XattrFS is a tree whose files have extended attributes.
type XattrFS interface {
	fs.FS
	// Xattrs returns the attributes of a file, or of a symbolic link itself.
	Xattrs(name string) ([]Xattr, error)
}

// Xattr is an extended attribute, with its whole name, such as "user.comment".
type Xattr struct {
	Name  string
	Value []byte
}

// Owner replaces the owners of all files.
type Owner struct{ UID, GID uint32 }

func statOf(info fs.FileInfo) Stat {
	switch s := info.Sys().(type) {
	case *Stat:
		return *s
	case *syscall.Stat_t:
		out := Stat{UID: s.Uid, GID: s.Gid, Major: unix.Major(s.Rdev), Minor: unix.Minor(s.Rdev)}
		if s.Nlink > 1 {
			out.Link = Link{s.Dev, s.Ino}
		}
		return out
	}
	return Stat{}
}

// Types of files: in the mode of an inode (S_IFMT), and in an entry of a directory (enum erofs file types, which are FT_*).
const (
	modeFIFO, entryFIFO           = 0o010000, 5
	modeCharacter, entryCharacter = 0o020000, 3
	modeDir, entryDir             = 0o040000, 2
	modeBlock, entryBlock         = 0o060000, 4
	modeRegular, entryRegular     = 0o100000, 1
	modeSymlink, entrySymlink     = 0o120000, 7
	modeSocket, entrySocket       = 0o140000, 6

	modeType = 0o170000
)

// unixMode is a mode as Linux has it.
func unixMode(m fs.FileMode) (uint16, error) {
	out := uint16(m.Perm())
	for bit, value := range map[fs.FileMode]uint16{fs.ModeSetuid: 0o4000, fs.ModeSetgid: 0o2000, fs.ModeSticky: 0o1000} {
		if m&bit != 0 {
			out |= value
		}
	}
	kind, ok := map[fs.FileMode]uint16{
		0: modeRegular, fs.ModeDir: modeDir, fs.ModeSymlink: modeSymlink, fs.ModeNamedPipe: modeFIFO, fs.ModeSocket: modeSocket,
		fs.ModeDevice: modeBlock, fs.ModeDevice | fs.ModeCharDevice: modeCharacter,
	}[m.Type()]
	if !ok {
		return 0, fmt.Errorf("a file of type %s, which no image can have", m.Type())
	}
	return out | kind, nil
}

func entryType(mode uint16) byte {
	switch mode & modeType {
	case modeFIFO:
		return entryFIFO
	case modeCharacter:
		return entryCharacter
	case modeDir:
		return entryDir
	case modeBlock:
		return entryBlock
	case modeSymlink:
		return entrySymlink
	case modeSocket:
		return entrySocket
	}
	return entryRegular
}
