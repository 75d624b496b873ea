// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
)

// The sizes of an Ethernet frame that is passed on. Anything smaller has no header; nothing larger fits the device.
const (
	minFrame = 14
	maxFrame = 64 << 10
)

// frameGuard reads length-prefixed frames from a connection and passes on only those of a sane size and of the guest's own
// hardware address, so that what reads them may rely on an Ethernet header and a bounded buffer, and remembers no more
// than one sender.
type frameGuard struct {
	net.Conn
	sender [6]byte // the guest's hardware address
	buf    [4 + maxFrame]byte
	left   []byte // what of the present frame was not read yet
}

// Read returns bytes of the frames that are let through.
func (g *frameGuard) Read(p []byte) (int, error) {
	for len(g.left) == 0 {
		err := g.next()
		if err != nil {
			return 0, err
		}
	}
	n := copy(p, g.left)
	g.left = g.left[n:]
	return n, nil
}

// next reads one frame. Too small a frame, or one of another sender, is left out; too large a one ends the connection, because no guest can send
// it through the device.
func (g *frameGuard) next() error {
	_, err := io.ReadFull(g.Conn, g.buf[:4])
	if err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(g.buf[:4])
	if size > maxFrame {
		return fmt.Errorf("frame has %d bytes, limit is %d", size, maxFrame)
	}
	_, err = io.ReadFull(g.Conn, g.buf[4:4+size])
	if err != nil {
		return err
	}
	if size >= minFrame && bytes.Equal(g.buf[4+6:4+12], g.sender[:]) {
		g.left = g.buf[:4+size]
	}
	return nil
}
