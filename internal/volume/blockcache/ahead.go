// SPDX-License-Identifier: Apache-2.0

package blockcache

const (
	// maxStreams is how many readers are followed at a time.
	maxStreams = 8
	// slackReads is by how many reads of its size a read may be out of order, as those of a kernel are.
	slackReads = 4
	// aheadOfRun is how far is read ahead, as a multiple of what was read in order: little for those who may be about to
	// stop.
	aheadOfRun = 4
)

// stream is a reader who reads in order, as far as can be told.
type stream struct {
	next   int64  // where the next read is expected
	issued int64  // up to where was read ahead
	run    int64  // how much was read in order so far
	window int64  // how far is read ahead: the more, the longer the reader has kept to the order
	used   uint64 // when, as counted by Cache.turn
}

// follow notes a read, and reads ahead if it goes on where an earlier one ended. Reads may overtake each other a little, as
// those of a kernel do.
func (c *Cache) follow(off, n int64) {
	if c.o.Ahead <= 0 || n == 0 {
		return
	}
	slack := slackReads * n
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn++
	oldest := &c.streams[0]
	for i := range c.streams {
		s := &c.streams[i]
		if s.used != 0 && off >= s.next-slack && off <= s.next+slack {
			s.used = c.turn
			if end := off + n; end > s.next {
				s.run += end - s.next
				s.next = end
				s.window = min(aheadOfRun*s.run, c.o.Ahead)
			}
			c.readAhead(s)
			return
		}
		if s.used < oldest.used {
			oldest = s
		}
	}
	*oldest = stream{next: off + n, run: n, issued: off + n, used: c.turn}
}

// readAhead begins to load what a reader will want. It lets half of the window pass before it asks for more, so that requests
// are large. The caller has mu.
func (c *Cache) readAhead(s *stream) {
	end := min(s.next+s.window, c.size)
	s.issued = max(s.issued, s.next)
	if s.window == 0 || s.issued >= end || s.issued-s.next > s.window/2 || c.life.Err() != nil {
		return
	}
	size := int64(c.o.Block)
	last := (end - 1) / size
	for i := s.issued / size; i <= last; i++ {
		if c.blocks[i] == nil {
			if c.ahead >= c.o.Parallel || !c.load(i, last, true) {
				return // goes on when a request has ended, or with the next read
			}
		}
		s.issued = min((i+1)*size, end)
	}
}
