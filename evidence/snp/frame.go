// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"encoding/binary"
	"fmt"
	"io"
)

// MaxFrameSize is the largest length that a frame on the simulator's port may state.
const MaxFrameSize = 8 << 10

// WriteFrame writes one message to the simulator's port in a single write. A frame is a 32-bit little-endian length of
// what follows, the message type as one byte, and the message. On hardware the same messages travel encrypted through a
// shared page; a byte stream needs the frame instead.
func WriteFrame(w io.Writer, t MessageType, payload []byte) error {
	n := 1 + len(payload)
	if n > MaxFrameSize {
		return fmt.Errorf("writing frame of type %d: size is %d bytes, more than %d", t, n, MaxFrameSize)
	}
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+n), uint32(n))
	b = append(append(b, byte(t)), payload...)
	if _, err := w.Write(b); err != nil {
		return fmt.Errorf("writing frame of type %d: %w", t, err)
	}
	return nil
}

// ReadFrame reads one message from the simulator's port. It allocates no more than MaxFrameSize. An error means that the
// stream can not be used any further; io.EOF means that it ended between frames.
func ReadFrame(r io.Reader) (MessageType, []byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF {
			return 0, nil, io.EOF
		}
		return 0, nil, fmt.Errorf("reading frame length: %w", err)
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n < 1 || n > MaxFrameSize {
		return 0, nil, fmt.Errorf("reading frame: stated size is %d bytes, not 1 to %d", n, MaxFrameSize)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, fmt.Errorf("reading frame of %d bytes: %w", n, err)
	}
	return MessageType(b[0]), b[1:], nil
}
