// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// maxConsoleFile is the size at which the console's file is rotated; one older file is kept. maxConsoleTail is what is
// kept in memory for messages.
const (
	maxConsoleFile = 1 << 20
	maxConsoleTail = 8 << 10
)

// console takes what the guest's kernel and agent print. The guest may print without end, so both copies are bounded.
type console struct {
	tail *ring
	path string
	f    *os.File
	size int
}

// openConsole writes to path, or only keeps the tail when path is empty.
func openConsole(path string) (*console, error) {
	c := &console{tail: newRing(maxConsoleTail), path: path}
	if path == "" {
		return c, nil
	}
	err := c.open()
	if err != nil {
		return nil, err
	}
	return c, nil
}

func (c *console) open() error {
	f, err := os.OpenFile(c.path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("opening the console's log: %w", err)
	}
	c.f, c.size = f, 0
	return nil
}

// run copies the console until it ends. A full disk costs the file, never the machine.
func (c *console) run(r io.Reader) {
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		_, _ = c.tail.Write(buf[:n])
		c.store(buf[:n])
		if err != nil {
			break
		}
	}
	if c.f != nil {
		_ = c.f.Close() // a loss here is a loss of the last console lines only
	}
}

func (c *console) store(p []byte) {
	if c.f == nil || len(p) == 0 {
		return
	}
	if c.size+len(p) > maxConsoleFile {
		err := errors.Join(c.f.Close(), os.Rename(c.path, c.path+".1"), c.open())
		if err != nil {
			c.f = nil
			return
		}
	}
	n, _ := c.f.Write(p)
	c.size += n
}

// last returns the last lines of the console, for a message.
func (c *console) last(lines int) string {
	all := strings.Split(strings.TrimSpace(c.tail.String()), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
