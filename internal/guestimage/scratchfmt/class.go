// SPDX-License-Identifier: Apache-2.0

package scratchfmt

// Dir is the directory of the templates in the guest.
const Dir = "/usr/lib/cofferdam/scratch"

// Class is one size of scratch disk that the guest can make.
type Class struct {
	Name  string // e.g. "1g": what a user gets at least
	Room  int64  // bytes that the empty filesystem has for files, at least; what the name says
	Bytes int64  // of the filesystem, with what it needs for itself
}

// Classes returns the sizes, smallest first. Each doubles the one before, so that nobody gets much more than he asked
// for; templates are small, and what the guest does not write takes no room on the host.
func Classes() []Class {
	const mib, gib = 1 << 20, 1 << 30
	return []Class{
		class("256m", 256*mib), class("512m", 512*mib), class("1g", gib), class("2g", 2*gib), class("4g", 4*gib),
		class("8g", 8*gib), class("16g", 16*gib), class("32g", 32*gib), class("64g", 64*gib), class("128g", 128*gib),
	}
}

// class adds to room what ext4 takes: inodes of 256 bytes for each 8192 and little else, and a fiftieth, at most 4096
// blocks, that the kernel keeps back for its own metadata.
func class(name string, room int64) Class {
	size := room + room/28 + min(room/49, 4096*BlockSize) + 2<<20
	return Class{Name: name, Room: room, Bytes: size &^ (BlockSize - 1)}
}

// Path is where the guest finds the template.
func (c Class) Path() string { return Dir + "/" + c.Name + ".ext" }

// DiskBytes is the size that the host gives the disk, so that the filesystem fits beside what dm-integrity keeps
// there: 32 bytes for each block of 4096, a journal area of at most 1/128, its superblock, and rounding.
func (c Class) DiskBytes() int64 { return (c.Bytes + c.Bytes/32 + 4<<20) &^ (BlockSize - 1) }

// Smallest returns the smallest class with room for that many bytes of files, if there is one.
func Smallest(room int64) (Class, bool) {
	for _, c := range Classes() {
		if c.Room >= room {
			return c, true
		}
	}
	return Class{}, false
}

// Largest returns the largest class whose filesystem fits into usable bytes, if there is one. Usable is what
// dm-integrity provides, not the size of the disk.
func Largest(usable int64) (Class, bool) {
	var best Class
	for _, c := range Classes() {
		if c.Bytes <= usable {
			best = c
		}
	}
	return best, best.Name != ""
}
