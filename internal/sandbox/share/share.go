// SPDX-License-Identifier: Apache-2.0

// Package share serves a directory of the host to a guest, in messages of the FUSE protocol.
//
// The directory belongs to whoever calls Serve, and so does everything that the guest makes in it: the guest sees one owner
// and one mode, and its wishes for others are passed over. The guest is not trusted: messages are parsed strictly and bounded,
// and every name is resolved by the kernel below the directory, with no symbolic link followed. A link in the directory is
// text for the guest, wherever it leads. The guest can make files and directories, not links, devices or set-user-ID programs,
// and opens nothing but files and directories. Neither side learns of the other's locks.
package share

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

// ErrProtocol says that the guest sent what the protocol does not have.
var ErrProtocol = errors.New("the guest's message is none of the FUSE protocol's")

// server is one guest's view of a directory. It answers one request at a time.
type server struct {
	root     int // the directory
	readOnly bool
	begun    bool // features were negotiated
	nodes    *nodes
	handles  handles
	listed   int // entries of open directories
}

// Serve answers the guest until it ends the connection, breaks the protocol, or ctx ends. It closes conn.
func Serve(ctx context.Context, conn net.Conn, dir string, readOnly bool) error {
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("sharing %s: %w", dir, err)
	}
	s := &server{root: root, readOnly: readOnly, nodes: newNodes(), handles: handles{}}
	defer s.close()
	err = s.serve(conn)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF):
		return nil
	}
	return fmt.Errorf("sharing %s: %w", dir, err)
}

func (s *server) close() {
	for _, h := range s.handles {
		_ = h.file.Close()
	}
	_ = unix.Close(s.root)
}

func (s *server) serve(conn io.ReadWriter) error {
	buf := make([]byte, maxMessage)
	for {
		_, err := io.ReadFull(conn, buf[:requestHeader])
		if err != nil {
			return err // io.EOF between two messages alone
		}
		n := binary.NativeEndian.Uint32(buf)
		if n < requestHeader || n > maxMessage {
			return fmt.Errorf("message of %d bytes: %w", n, ErrProtocol)
		}
		_, err = io.ReadFull(conn, buf[requestHeader:n])
		if err != nil {
			return errors.Join(ErrProtocol, err)
		}
		answer, err := s.answer(buf[:n])
		if err != nil {
			return err
		}
		if answer == nil {
			continue
		}
		_, err = conn.Write(answer)
		if err != nil {
			return err
		}
	}
}

// answer carries out one request. It returns nil where none is due.
func (s *server) answer(m []byte) ([]byte, error) {
	r := request{
		operation: binary.NativeEndian.Uint32(m[4:]), unique: binary.NativeEndian.Uint64(m[8:]), node: binary.NativeEndian.Uint64(m[16:]),
		body: fields{b: m[requestHeader:]},
	}
	if extensions := binary.NativeEndian.Uint16(m[36:]); extensions != 0 {
		return nil, fmt.Errorf("request with %d words of extensions: %w", extensions, ErrProtocol)
	}
	if !s.begun && r.operation != opInit {
		return nil, fmt.Errorf("request %d before the negotiation: %w", r.operation, ErrProtocol)
	}
	op, ok := operations[r.operation]
	if !ok {
		return r.failed(unix.ENOSYS), nil
	}
	if op.writes && s.readOnly {
		return r.failed(unix.EROFS), nil
	}
	body, err := op.do(s, &r)
	if r.body.wrong {
		return nil, fmt.Errorf("request %d of %d bytes: %w", r.operation, len(m), ErrProtocol)
	}
	if op.silent {
		return nil, nil
	}
	if err != nil {
		return r.failed(number(err)), nil
	}
	return r.succeeded(body), nil
}

// number is the error number that the guest gets to see.
func number(err error) unix.Errno {
	var e unix.Errno
	if errors.As(err, &e) && e != 0 {
		return e
	}
	return unix.EIO
}
