// SPDX-License-Identifier: Apache-2.0

package scratchfmt

// Dir is the directory of the templates in the guest.
const Dir = "/usr/lib/cofferdam/scratch"

// Class is one size of scratch disk that the guest can make.
type Class struct {
	Name  string // e.g. "1g"
	Bytes int64  // of the filesystem
}

// Classes returns the sizes, smallest first.
func Classes() []Class {
	return []Class{
		{Name: "256m", Bytes: 256 << 20},
		{Name: "1g", Bytes: 1 << 30},
		{Name: "8g", Bytes: 8 << 30},
		{Name: "64g", Bytes: 64 << 30},
	}
}

// Path is where the guest finds the template.
func (c Class) Path() string { return Dir + "/" + c.Name + ".ext" }

// DiskBytes is the size that the host gives the disk, so that the filesystem fits beside what dm-integrity keeps
// there: 32 bytes for each block of 4096, a journal area of at most 1/128, its superblock, and rounding.
func (c Class) DiskBytes() int64 { return c.Bytes + c.Bytes/32 + 4<<20 }

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
