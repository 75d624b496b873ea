// SPDX-License-Identifier: Apache-2.0

package layer

import (
	"archive/tar"
	"path"
)

// Orphans tells of entries that stand before the directory that they lie in, or without it. The converter has to make
// such a directory up, and its versions differ in how: the root is right for this scheme, and older tools compute
// another one, or one that is new every time.
type Orphans struct {
	Count int    `json:"count"`
	First string `json:"first"` // name of the first one, shortened
}

// maxDirectories bounds how many directories a tally remembers; beyond them it counts nothing.
const maxDirectories = 1 << 18

// tally finds the orphans of a layer. A missing directory counts once, for the first entry in it.
type tally struct {
	made  map[string]struct{}
	found Orphans
}

func newTally() *tally { return &tally{made: map[string]struct{}{"/": {}}} }

func (t *tally) note(h *tar.Header) {
	if h.Typeflag == tar.TypeXGlobalHeader || len(t.made) > maxDirectories {
		return
	}
	name := path.Clean("/" + h.Name)
	dir := path.Dir(name)
	if !t.has(dir) {
		if t.found.Count == 0 {
			t.found.First = shorten(h.Name)
		}
		t.found.Count++
		for ; !t.has(dir); dir = path.Dir(dir) {
			t.made[dir] = struct{}{}
		}
	}
	if h.Typeflag == tar.TypeDir {
		t.made[name] = struct{}{}
	}
}

func (t *tally) has(dir string) bool {
	_, ok := t.made[dir]
	return ok
}
