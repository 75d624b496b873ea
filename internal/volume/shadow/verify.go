// SPDX-License-Identifier: Apache-2.0

package shadow

import (
	"context"
	"errors"
)

// Report is what a look at every item of a volume found.
type Report struct {
	// Blocks and Nodes are how many were read and are what was written.
	Blocks, Nodes uint64
	// Damaged are how many items did not pass. Nothing below a damaged node could be looked at.
	Damaged uint64
	// First names the first ones.
	First []string
}

// maxNamed bounds how many damaged items a report names.
const maxNamed = 20

// Verify reads everything that the committed state refers to. The error is that of a storage that can not be read, or of
// a context that has ended; damage is in the report.
func (v *Volume) Verify(ctx context.Context, progress func(blocks uint64)) (*Report, error) {
	v.state.RLock()
	defer v.state.RUnlock()
	w := walk{v: v, ctx: ctx, progress: progress, buf: make([]byte, BlockSize+tagSize)}
	root := v.sb.root
	if n := v.nodes.get(v.geo.levels, 0); n != nil && n.dirty {
		return &w.report, errors.New("flush the volume first: its last changes are not committed")
	}
	err := w.item(&root, v.geo.levels, 0)
	return &w.report, err
}

type walk struct {
	v        *Volume
	ctx      context.Context //nolint:containedctx // lives as long as one walk
	progress func(uint64)
	buf      []byte
	report   Report
}

func (w *walk) item(e *entry, level int, index uint64) error {
	if e.empty() {
		return nil
	}
	err := context.Cause(w.ctx)
	if err != nil {
		return err
	}
	err = w.v.fetch(w.ctx, e, level, index, w.buf)
	if errors.Is(err, ErrDamaged) {
		w.report.Damaged++
		if len(w.report.First) < maxNamed {
			w.report.First = append(w.report.First, err.Error())
		}
		return nil
	}
	if err != nil {
		return err
	}
	if level == 0 {
		w.report.Blocks++
		if w.progress != nil {
			w.progress(w.report.Blocks)
		}
		return nil
	}
	w.report.Nodes++
	return w.children(level, index)
}

// children looks at what a node describes. The node is in the buffer, which the children use too.
func (w *walk) children(level int, index uint64) error {
	var entries [fanOut]entry
	for j := range entries {
		entries[j] = entry(w.buf[j*entrySize:])
	}
	for j := range entries {
		err := w.item(&entries[j], level-1, index*fanOut+uint64(j))
		if err != nil {
			return err
		}
	}
	return nil
}
