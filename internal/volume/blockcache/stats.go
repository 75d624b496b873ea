// SPDX-License-Identifier: Apache-2.0

package blockcache

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// counters count since Open.
type counters struct {
	read, written              atomic.Int64 // bytes asked of the cache
	fetched, stored            atomic.Int64 // bytes that storage gave, and took
	fetches, writes            atomic.Int64 // requests, each attempt by itself
	flushes, retries, failures atomic.Int64
	evictions                  atomic.Int64
	aheadUsed, aheadWasted     atomic.Int64 // blocks read ahead
	fenced                     atomic.Int64
}

// Stats are counts since Open, and what is in memory now.
type Stats struct {
	// ReadBytes and WrittenBytes were asked of the cache; FetchedBytes and StoredBytes passed between it and the storage.
	ReadBytes, WrittenBytes, FetchedBytes, StoredBytes int64
	// Fetches and Writes are requests to the storage, each attempt by itself; Flushes are calls.
	Fetches, Writes, Flushes int64
	// Retries are attempts that failed and were followed by another; Failures are requests that failed in the end.
	Retries, Failures int64
	// Evictions are blocks that were forgotten for others. AheadUsed are blocks that were read ahead and then wanted,
	// AheadWasted those that were forgotten before.
	Evictions, AheadUsed, AheadWasted int64
	// CachedBytes is the memory of all blocks, UnsavedBytes that of blocks that are not written.
	CachedBytes, UnsavedBytes int64
	// Fenced says that the cache has ended because the object was changed by someone else, or its lease lost.
	Fenced bool
}

// Stats returns the counts.
func (c *Cache) Stats() Stats {
	n := &c.counts
	c.mu.Lock()
	used, unsaved := c.used, c.unsaved
	c.mu.Unlock()
	return Stats{
		ReadBytes: n.read.Load(), WrittenBytes: n.written.Load(), FetchedBytes: n.fetched.Load(), StoredBytes: n.stored.Load(),
		Fetches: n.fetches.Load(), Writes: n.writes.Load(), Flushes: n.flushes.Load(), Retries: n.retries.Load(), Failures: n.failures.Load(),
		Evictions: n.evictions.Load(), AheadUsed: n.aheadUsed.Load(), AheadWasted: n.aheadWasted.Load(),
		CachedBytes: used, UnsavedBytes: unsaved, Fenced: n.fenced.Load() != 0,
	}
}

// Collectors returns the counts as metrics, labelled with the volume's name.
func (c *Cache) Collectors(volume string) []prometheus.Collector {
	labels := prometheus.Labels{"volume": volume}
	var all []prometheus.Collector
	count := func(name, help string, n *atomic.Int64) {
		all = append(all, prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "cofferdam_volume_" + name + "_total", Help: help, ConstLabels: labels},
			func() float64 { return float64(n.Load()) }))
	}
	gauge := func(name, help string, value func(Stats) int64) {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "cofferdam_volume_" + name, Help: help, ConstLabels: labels},
			func() float64 { return float64(value(c.Stats())) }))
	}
	n := &c.counts
	count("read_bytes", "Bytes that were read from the cache.", &n.read)
	count("written_bytes", "Bytes that were written to the cache.", &n.written)
	count("fetched_bytes", "Bytes that the storage gave.", &n.fetched)
	count("stored_bytes", "Bytes that the storage took.", &n.stored)
	count("fetches", "Requests that read from the storage, each attempt by itself.", &n.fetches)
	count("writes", "Requests that wrote to the storage, each attempt by itself.", &n.writes)
	count("flushes", "Calls that waited until all was stored.", &n.flushes)
	count("retries", "Requests that failed for now, and were made again.", &n.retries)
	count("failures", "Requests that failed in the end.", &n.failures)
	count("evictions", "Blocks that were forgotten for others.", &n.evictions)
	count("ahead_used", "Blocks that were read ahead, and then wanted.", &n.aheadUsed)
	count("ahead_wasted", "Blocks that were read ahead, and forgotten before they were wanted.", &n.aheadWasted)
	gauge("cached_bytes", "Memory of blocks.", func(s Stats) int64 { return s.CachedBytes })
	gauge("unsaved_bytes", "Memory of blocks that are not written.", func(s Stats) int64 { return s.UnsavedBytes })
	gauge("fenced", "1 when the object was changed by someone else, or its lease lost.", func(Stats) int64 { return n.fenced.Load() })
	return all
}
