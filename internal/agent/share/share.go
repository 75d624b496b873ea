// SPDX-License-Identifier: Apache-2.0

// Package share mounts a directory that the host serves, and carries the messages of the FUSE protocol between the guest's
// kernel and the host.
//
// It trusts neither side of what it carries. Of a message it looks at the length, and at what says which question an answer
// is for; the kernel parses the rest, as it does for any file server without privilege. Answers to nothing, messages that
// nobody asked for and features beyond plain files never reach the kernel. It opens nothing in the directory itself: whoever
// waits for a slow host is a container. A host that is slow, dead or wrong loses the directory, and whoever waits for it gets
// an error.
package share

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/mount"
)

// answerTime is how long the host may take to open the stream, and for each answer.
const answerTime = time.Minute

// device is the kernel's side: each read is one request, each write one answer.
const device = "/dev/fuse"

// Share is a directory that the host serves.
type Share struct {
	dev   io.ReadWriteCloser
	limit time.Duration // for an answer
	done  chan struct{}
	once  sync.Once

	mu      sync.Mutex
	conn    net.Conn // nil before Serve
	since   time.Time
	waiting map[uint64]time.Time // requests without an answer
	first   uint64               // the request that negotiates features
}

// Mount mounts a directory at target, which must exist. The share must be closed.
func Mount(target string, readOnly bool) (*Share, error) {
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("opening %s: %w", device, err)
	}
	options := []mount.Option{
		{Key: "fd", Value: strconv.Itoa(fd)}, {Key: "rootmode", Value: "40000"}, {Key: "user_id", Value: "0"}, {Key: "group_id", Value: "0"},
		{Key: "default_permissions"}, {Key: "allow_other"}, {Key: "max_read", Value: strconv.Itoa(maxData)},
	}
	if readOnly {
		options = append(options, mount.Option{Key: "ro"}) // of the filesystem, whatever a container's mount of it says
	}
	err = mount.FS{
		Type: "fuse", Source: "host", Options: options, Attr: unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV,
	}.At(target)
	if err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	return start(os.NewFile(uintptr(fd), device), answerTime), nil // only now: before the mount it can not be waited for
}

func start(dev io.ReadWriteCloser, limit time.Duration) *Share {
	s := &Share{dev: dev, limit: limit, done: make(chan struct{}), since: time.Now(), waiting: map[uint64]time.Time{}}
	go s.watch()
	return s
}

// Close ends the service: whoever uses the directory gets an error from then on. The mount stays until it is unmounted.
func (s *Share) Close() {
	s.once.Do(func() {
		close(s.done)
		_ = s.dev.Close() // the kernel ends every request
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.conn != nil {
			_ = s.conn.Close()
		}
	})
}

// Ended reports whether the service has ended.
func (s *Share) Ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// CloseIfStuck closes the share if the host has owed it an answer, or the stream, for longer than that.
func (s *Share) CloseIfStuck(owed time.Duration) {
	s.mu.Lock()
	stuck := s.conn == nil && time.Since(s.since) > owed
	for _, t := range s.waiting {
		stuck = stuck || time.Since(t) > owed
	}
	s.mu.Unlock()
	if stuck {
		s.Close()
	}
}

// watch closes the share when the host is too slow.
func (s *Share) watch() {
	tick := time.NewTicker(max(s.limit/10, time.Millisecond))
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.CloseIfStuck(s.limit)
		case <-s.done:
			return
		}
	}
}

// Serve carries messages between the kernel and the host until either side ends or breaks the protocol. It is called at most
// once, and owns c.
func (s *Share) Serve(c net.Conn) {
	defer s.Close()
	s.mu.Lock()
	ended := s.Ended()
	if !ended {
		s.conn = c
	}
	s.mu.Unlock()
	if ended {
		_ = c.Close()
		return
	}
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		defer s.Close()
		_ = s.requests(c) // whatever it was, it is over
	}()
	_ = s.answers(c)
	s.Close()
	<-sent
}
