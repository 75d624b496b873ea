// SPDX-License-Identifier: Apache-2.0

package share

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of the FUSE protocol (linux/fuse.h, version 7.41), in bytes.
const (
	requestHeader = 40 // struct fuse_in_header
	answerHeader  = 16 // struct fuse_out_header
	initAnswer    = 64 // struct fuse_init_out
	maxData       = 128 << 10
	maxMessage    = maxData + 4<<10 // and its headers; the kernel reads no smaller buffer than that of the largest write
)

// Operations that are looked at (enum fuse_opcode).
const (
	opForget      = 2
	opInit        = 26
	opInterrupt   = 36
	opBatchForget = 42
)

// allowedFeatures are the flags that an answer to INIT may have: asynchronous reads, writes of more than a page, data that are
// read again when a file has changed, look-ups side by side, messages of several pages. Whatever else the kernel offers asks
// it to trust its server with more: caching of writes, access control lists, mapping of memory, other mounts.
const allowedFeatures = 1<<0 | 1<<5 | 1<<12 | 1<<18 | 1<<22

var errProtocol = errors.New("the message is none of the FUSE protocol's")

// requests carries what the kernel asks to the host.
func (s *Share) requests(c io.Writer) error {
	buf := make([]byte, maxMessage)
	for {
		n, err := s.dev.Read(buf)
		if errors.Is(err, unix.ENOENT) {
			continue // the request was given up before it was read
		}
		if err != nil {
			return err
		}
		if n < requestHeader || binary.NativeEndian.Uint32(buf) != uint32(n) { // bounded by the buffer
			return fmt.Errorf("request of %d bytes: %w", n, errProtocol)
		}
		s.ask(binary.NativeEndian.Uint32(buf[4:]), binary.NativeEndian.Uint64(buf[8:]))
		_, err = c.Write(buf[:n])
		if err != nil {
			return err
		}
	}
}

// ask notes that the host owes an answer.
func (s *Share) ask(operation uint32, unique uint64) {
	switch operation {
	case opForget, opBatchForget, opInterrupt:
		return // have none
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting[unique] = time.Now()
	if operation == opInit {
		s.first = unique
	}
}

// answers carries what the host answers to the kernel.
func (s *Share) answers(c io.Reader) error {
	buf := make([]byte, maxMessage)
	for {
		_, err := io.ReadFull(c, buf[:answerHeader])
		if err != nil {
			return err
		}
		n := binary.NativeEndian.Uint32(buf)
		if n < answerHeader || n > maxMessage {
			return fmt.Errorf("answer of %d bytes: %w", n, errProtocol)
		}
		_, err = io.ReadFull(c, buf[answerHeader:n])
		if err != nil {
			return err
		}
		err = s.answered(buf[:n])
		if err != nil {
			return err
		}
		_, err = s.dev.Write(buf[:n])
		if err != nil && !errors.Is(err, unix.ENOENT) { // whoever asked has given up
			return err
		}
	}
}

// answered checks that the message is the one answer to a question, and narrows what it negotiates.
func (s *Share) answered(m []byte) error {
	unique := binary.NativeEndian.Uint64(m[8:])
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.waiting[unique]
	if !ok || unique == 0 { // 0 marks a notification, which makes the kernel act unasked
		return fmt.Errorf("answer to a question that was not asked: %w", errProtocol)
	}
	delete(s.waiting, unique)
	if unique != s.first {
		return nil
	}
	s.first = 0
	return narrow(m)
}

// narrow reduces the answer to INIT (struct fuse_init_out) to plain files of bounded messages.
func narrow(m []byte) error {
	const (
		major      = answerHeader
		readahead  = answerHeader + 8
		features   = answerHeader + 12
		background = answerHeader + 16
		write      = answerHeader + 20
		precision  = answerHeader + 24
		pages      = answerHeader + 28
		rest       = answerHeader + 30
	)
	ne := binary.NativeEndian
	if len(m) != answerHeader+initAnswer || ne.Uint32(m[4:]) != 0 || ne.Uint32(m[major:]) != 7 {
		return fmt.Errorf("negotiating: %w", errProtocol)
	}
	ne.PutUint32(m[readahead:], min(ne.Uint32(m[readahead:]), maxData))
	ne.PutUint32(m[features:], ne.Uint32(m[features:])&allowedFeatures)
	ne.PutUint32(m[background:], 0) // the kernel's own limits
	ne.PutUint32(m[write:], min(max(ne.Uint32(m[write:]), 4<<10), maxData))
	ne.PutUint32(m[precision:], 1)
	ne.PutUint16(m[pages:], maxData>>12)
	clear(m[rest:])
	return nil
}
