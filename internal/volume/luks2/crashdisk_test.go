// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"bytes"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
)

// machine is what a crash happens to: its disks lose what was not synced, or parts of it, in any order.
type machine struct {
	left  int // operations until it crashes; negative means never
	count int
	r     *rand.Rand
	disks []*disk
}

func (m *machine) operate() error {
	m.count++
	if m.left == 0 {
		return errCrash
	}
	m.left--
	return nil
}

// restart is the machine after a crash, which crashes again after a number of operations.
func (m *machine) restart(left int) {
	for _, d := range m.disks {
		d.crash(m.r)
	}
	m.left, m.count = left, 0
}

const page = 512

type image struct {
	pages map[int64][page]byte
	size  int64
}

func (i *image) write(p []byte, off int64) {
	for n := 0; n < len(p); {
		at := off + int64(n)
		b := i.pages[at/page]
		k := copy(b[at%page:], p[n:])
		i.pages[at/page] = b
		n += k
	}
	i.size = max(i.size, off+int64(len(p)))
}

func (i *image) truncate(size int64) {
	maps.DeleteFunc(i.pages, func(n int64, _ [page]byte) bool { return n*page >= size })
	if b, ok := i.pages[size/page]; ok {
		clear(b[size%page:])
		i.pages[size/page] = b
	}
	i.size = size
}

func (i *image) ReadAt(p []byte, off int64) (int, error) {
	n := int(min(int64(len(p)), max(i.size-off, 0)))
	for done := 0; done < n; {
		at := off + int64(done)
		b := i.pages[at/page]
		done += copy(p[done:n], b[at%page:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

type pending struct {
	b        []byte // nil: truncate
	off      int64
	truncate bool
}

// disk keeps writes in a cache until they are synced. Its methods may be called at a time.
type disk struct {
	mu          sync.Mutex
	m           *machine
	now, stable image
	cache       []pending
}

func newDisk(m *machine, b []byte) *disk {
	d := &disk{m: m, now: image{map[int64][page]byte{}, 0}, stable: image{map[int64][page]byte{}, 0}}
	d.now.write(b, 0)
	d.stable.write(b, 0)
	m.disks = append(m.disks, d)
	return d
}

func (d *disk) ReadAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now.ReadAt(p, off)
}

func (d *disk) do(p pending, i *image) {
	if p.truncate {
		i.truncate(p.off)
	} else {
		i.write(p.b, p.off)
	}
}

func (d *disk) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := pending{b: bytes.Clone(p), off: off}
	d.cache = append(d.cache, w)
	if err := d.m.operate(); err != nil {
		return 0, err
	}
	d.do(w, &d.now)
	return len(p), nil
}

func (d *disk) Truncate(size int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := pending{off: size, truncate: true}
	d.cache = append(d.cache, w)
	if err := d.m.operate(); err != nil {
		return err
	}
	d.do(w, &d.now)
	return nil
}

func (d *disk) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.m.operate(); err != nil {
		return err
	}
	for _, w := range d.cache {
		d.do(w, &d.stable)
	}
	d.cache = nil
	return nil
}

func (d *disk) crash(r *rand.Rand) {
	for _, w := range d.cache {
		switch {
		case r.IntN(3) == 0: // lost
		case !w.truncate && r.IntN(2) == 0: // some of its sectors
			for at := 0; at < len(w.b); at += page {
				if r.IntN(2) == 0 {
					d.do(pending{b: w.b[at:min(at+page, len(w.b))], off: w.off + int64(at)}, &d.stable)
				}
			}
		default:
			d.do(w, &d.stable)
		}
	}
	d.cache = nil
	d.now = image{maps.Clone(d.stable.pages), d.stable.size}
}
