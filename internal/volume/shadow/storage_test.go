// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
)

const sector = 512

var errLost = errors.New("the storage is gone")

// disk is a storage in memory that can lose what was not flushed, sector by sector, and that can be changed.
type disk struct {
	mu      sync.Mutex
	durable map[int64][sector]byte
	pending map[int64][sector]byte
	// left is how many more writes and flushes there will be; negative is no limit.
	left                   int
	reads, writes, flushes int
	punched                int64
}

func newDisk() *disk {
	return &disk{durable: map[int64][sector]byte{}, pending: map[int64][sector]byte{}, left: -1}
}

func (d *disk) spend() error {
	if d.left == 0 {
		return errLost
	}
	if d.left > 0 {
		d.left--
	}
	return nil
}

func (d *disk) ReadAt(_ context.Context, p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reads++
	for i := 0; i < len(p); i += sector {
		at := off + int64(i)
		b, ok := d.pending[at]
		if !ok {
			b = d.durable[at]
		}
		copy(p[i:], b[:])
	}
	return nil
}

func (d *disk) WriteAt(_ context.Context, p []byte, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.writes++
	err := d.spend()
	for i := 0; i < len(p); i += sector {
		if err != nil && i >= len(p)/2 {
			return err // torn
		}
		d.pending[off+int64(i)] = [sector]byte(p[i:])
	}
	return err
}

func (d *disk) Flush(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flushes++
	err := d.spend()
	if err != nil {
		return err
	}
	maps.Copy(d.durable, d.pending)
	clear(d.pending)
	return nil
}

// Punch makes zeros, which may be lost as what is written may.
func (d *disk) Punch(_ context.Context, length, off int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.punched += length
	for at := off; at < off+length; at += sector {
		_, pending := d.pending[at]
		if _, there := d.durable[at]; there || pending {
			d.pending[at] = [sector]byte{}
		}
	}
	return nil
}

// used is how many bytes are not zeros.
func (d *disk) used() (n int) {
	for _, b := range d.clone().durable {
		if b != [sector]byte{} {
			n += sector
		}
	}
	return n
}

// crash keeps some of what was not flushed, as r has it, and returns what a new start finds.
func (d *disk) crash(r *rand.Rand) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := newDisk()
	maps.Copy(out.durable, d.durable)
	share := r.Float64()
	for at, b := range d.pending {
		if r.Float64() < share {
			out.durable[at] = b
		}
	}
	return out
}

func (d *disk) clone() *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := newDisk()
	maps.Copy(out.durable, d.durable)
	maps.Copy(out.durable, d.pending)
	return out
}

// counter is an anchor in memory.
type counter struct {
	mu      sync.Mutex
	records map[[16]byte]Record
	fail    error
	moves   int
}

func newCounter() *counter { return &counter{records: map[[16]byte]Record{}} }

func (c *counter) Load(_ context.Context, id [16]byte) (Record, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.records[id]
	if !ok {
		return r, ErrNoRecord
	}
	return r, nil
}

func (c *counter) Move(_ context.Context, was, next Record) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail != nil {
		return c.fail
	}
	if c.records[next.Volume] != was {
		return ErrMoved
	}
	c.records[next.Volume] = next
	c.moves++
	return nil
}
