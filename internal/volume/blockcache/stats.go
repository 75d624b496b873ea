// SPDX-License-Identifier: Apache-2.0

package blockcache

import "sync/atomic"

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
