// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"cofferdam.dev/internal/group/logfile"
)

// maxBehind is how much output is kept for a client that does not read it. A client that asked to be waited for makes
// the container wait then; another one is cut off.
const maxBehind = 1 << 20

// maxLast is how much of a run's output may become its message, in bytes, as with the kubelet.
const maxLast = 2 << 10

// drainQuiet is how long the streams of an ended process may be silent and open before they are given up.
const drainQuiet = 10 * time.Second

// hub takes the output of one container, of all its runs, to its log and to the clients that are attached.
type hub struct {
	log     *logfile.Writer
	logPath string
	// lost is called the first time that output could not be logged.
	lost func(error)

	mu    sync.Mutex // held while output is logged and queued, so that a new client misses and repeats nothing
	subs  map[*subscriber]bool
	ended map[string]bool
	told  bool
	free  bool   // nobody waits for a client any more
	part  int    // how often the output began again after its end
	last  []byte // the end of the present run's output

	pumps    sync.WaitGroup
	progress atomic.Int64 // when output last moved, in nanoseconds
	held     atomic.Int32 // writes that wait for a client
}

func newHub(log *logfile.Writer, path string, lost func(error)) *hub {
	return &hub{log: log, logPath: path, lost: lost, subs: map[*subscriber]bool{}, ended: map[string]bool{}}
}

// pump carries one stream of a run until it ends. A nil stream was not granted. If the run is the only one, the end of
// its stream is the end of the container's.
func (h *hub) pump(stream string, from net.Conn, r *run, only bool) {
	if from == nil {
		if only {
			h.end(stream)
		}
		return
	}
	h.pumps.Add(1)
	r.pumps.Go(func() {
		defer h.pumps.Done()
		if only {
			defer h.end(stream)
		}
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			if n > 0 {
				h.write(stream, buf[:n])
			}
			if err != nil {
				_ = from.Close() // it has ended
				return
			}
		}
	})
}

// reopen says that the container runs again: its streams have not ended, should they have.
func (h *hub) reopen() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended, h.last = map[string]bool{}, nil
	h.part++
}

// recent is the end of the present run's output.
func (h *hub) recent() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return string(h.last)
}

// chapter names what was output since the last reopen.
func (h *hub) chapter() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.part
}

// finish ends the output of a container that does not run any more.
func (h *hub) finish() {
	h.end(logfile.Stdout)
	h.end(logfile.Stderr)
}

// finishChapter is finish, unless the container runs again by now.
func (h *hub) finishChapter(part int) {
	if h.chapter() == part {
		h.finish()
	}
}

// write logs output and queues it, and then waits for the clients that want to be waited for.
func (h *hub) write(stream string, p []byte) {
	h.progress.Store(time.Now().UnixNano())
	h.mu.Lock()
	h.last = keepEnd(h.last, p, maxLast)
	err := h.log.Append(stream, p)
	first := err != nil && !h.told
	h.told = h.told || first
	var wait []*queue
	for s := range h.subs {
		q := s.queues[stream]
		q.push(p)
		if s.wait {
			wait = append(wait, q)
		} else if q.size() > maxBehind {
			q.cut()
		}
	}
	h.mu.Unlock()
	if first {
		h.lost(err)
	}
	h.held.Add(1)
	for _, q := range wait {
		q.waitBelow(maxBehind)
	}
	h.held.Add(-1)
	h.progress.Store(time.Now().UnixNano())
}

func (h *hub) end(stream string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended[stream] = true
	for s := range h.subs {
		s.queues[stream].finish()
	}
}

// drain waits until all output of an ended process has been taken. What is left of it is bounded, so no client holds it
// up any more. A guest that leaves a stream silent and open is not waited for for ever, and when the machine is gone
// (gone is closed) the streams end by themselves.
func (h *hub) drain(gone <-chan struct{}) {
	h.release()
	done := make(chan struct{})
	go func() {
		h.pumps.Wait()
		close(done)
	}()
	h.untilQuiet(done, gone)
	select {
	case <-gone:
		<-done
	default:
	}
}

// release has no client hold up output any more: none of those that are there, and none that comes.
func (h *hub) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free = true
	for s := range h.subs {
		for _, q := range s.queues {
			q.unblock()
		}
	}
}

// untilQuiet waits until done or gone is closed, or for as long as output goes on.
func (h *hub) untilQuiet(done, gone <-chan struct{}) {
	h.progress.Store(time.Now().UnixNano())
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-gone:
			return
		case <-tick.C:
			quiet := time.Since(time.Unix(0, h.progress.Load()))
			if quiet > drainQuiet && h.held.Load() == 0 {
				return
			}
		}
	}
}

// close ends the log. Attached clients keep what is queued for them.
func (h *hub) close() error { return h.log.Close() }

// subscriber is one attached client.
type subscriber struct {
	wait   bool
	queues map[string]*queue
}

// attach adds a client. With replay it gets what the log holds first.
func (h *hub) attach(wait, replay bool) (*subscriber, error) {
	s := &subscriber{wait: wait, queues: map[string]*queue{logfile.Stdout: newQueue(), logfile.Stderr: newQueue()}}
	h.mu.Lock()
	defer h.mu.Unlock()
	for stream, q := range s.queues {
		if !replay {
			continue
		}
		past, err := logfile.Take(h.logPath) // one for each stream: each is sent at its own pace
		if err != nil {
			s.discard()
			return nil, err
		}
		q.stream, q.past = stream, past
	}
	h.subs[s] = true
	for _, q := range s.queues {
		q.free = h.free
	}
	for stream := range h.ended {
		s.queues[stream].finish()
	}
	return s, nil
}

// discard gives up everything that was not taken.
func (s *subscriber) discard() {
	for _, q := range s.queues {
		q.cut()
	}
}

func (h *hub) detach(s *subscriber) {
	h.mu.Lock()
	delete(h.subs, s)
	h.mu.Unlock()
	s.discard()
}

// queue is the output of one stream that one client has not taken yet.
type queue struct {
	mu       sync.Mutex
	changed  sync.Cond
	buf      []byte
	finished bool // nothing will follow
	dead     bool // nobody reads any more
	free     bool // the process has ended: nobody waits for the client any more

	// past is what the log held of stream before, nil once it is being sent.
	past   *logfile.Snapshot
	stream string
}

func newQueue() *queue {
	q := &queue{}
	q.changed.L = &q.mu
	return q
}

func (q *queue) push(p []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.dead {
		q.buf = append(q.buf, p...)
		q.changed.Broadcast()
	}
}

func (q *queue) size() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.buf)
}

func (q *queue) waitBelow(limit int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.buf) > limit && !q.dead && !q.free {
		q.changed.Wait()
	}
}

func (q *queue) unblock() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free = true
	q.changed.Broadcast()
}

func (q *queue) finish() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.finished = true
	q.changed.Broadcast()
}

// cut throws away what is queued and will be.
func (q *queue) cut() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dead, q.buf = true, nil
	if q.past != nil {
		_ = q.past.Close() // opened for reading only
		q.past = nil
	}
	q.changed.Broadcast()
}

// next waits for output and takes all of it. It is false at the end.
func (q *queue) next() ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.buf) == 0 && !q.finished && !q.dead {
		q.changed.Wait()
	}
	p := q.buf
	q.buf = nil
	q.changed.Broadcast()
	return p, len(p) > 0
}

// send writes the past and then the queue to a client's stream until either ends, and closes it.
func (q *queue) send(to net.Conn) {
	go func() {
		_, _ = io.Copy(io.Discard, to) // a client that closes its side of the stream reads no more
		q.cut()
	}()
	defer func() {
		_ = to.Close() // the client sees the end of the output
		q.cut()
	}()
	q.mu.Lock()
	past := q.past
	q.past = nil
	q.mu.Unlock()
	if past != nil {
		err := past.Each(context.Background(), func(e logfile.Entry) error {
			if e.Stream != q.stream {
				return nil
			}
			_, err := to.Write(e.Bytes())
			return err
		})
		if err != nil {
			return
		}
	}
	for {
		p, more := q.next()
		if !more {
			return
		}
		_, err := to.Write(p)
		if err != nil {
			return
		}
	}
}
