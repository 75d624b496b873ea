// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// consoleTimeout bounds the wait for a terminal that the runtime has sent already when it is waited for.
const consoleTimeout = 10 * time.Second

// console receives the terminal of a process from the runtime.
type console struct {
	path     string
	listener *net.UnixListener
}

func newConsole(path string) (*console, error) {
	_ = os.Remove(path) // left over from an attempt that failed
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listening for the terminal: %w", err)
	}
	return &console{path: path, listener: l}, nil
}

func (c *console) close() {
	_ = c.listener.Close() // removes the socket too
}

// receive returns the master side of the terminal.
func (c *console) receive() (*os.File, error) {
	deadline := time.Now().Add(consoleTimeout)
	err := c.listener.SetDeadline(deadline)
	if err != nil {
		return nil, fmt.Errorf("waiting for the terminal: %w", err)
	}
	conn, err := c.listener.AcceptUnix()
	if err != nil {
		return nil, fmt.Errorf("waiting for the terminal: %w", err)
	}
	defer func() { _ = conn.Close() }()
	err = conn.SetDeadline(deadline)
	if err != nil {
		return nil, fmt.Errorf("waiting for the terminal: %w", err)
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := conn.ReadMsgUnix(make([]byte, 4096), oob) // the text is the terminal's name
	if err != nil {
		return nil, fmt.Errorf("receiving the terminal: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		return nil, fmt.Errorf("receiving the terminal: %w", err)
	}
	var fds []int
	for i := range messages {
		rights, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return nil, fmt.Errorf("receiving the terminal: %w", err)
		}
		fds = append(fds, rights...)
	}
	if len(fds) != 1 {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
		return nil, errors.New("receiving the terminal: the runtime did not send one file")
	}
	unix.CloseOnExec(fds[0])
	return os.NewFile(uintptr(fds[0]), "terminal"), nil
}

// streams receives the terminal and makes the process's streams of it.
func (c *console) streams(want Stdio) (Streams, *os.File, error) {
	master, err := c.receive()
	if err != nil {
		return Streams{}, nil, err
	}
	s, err := terminalStreams(want, master)
	if err != nil {
		_ = master.Close()
		return Streams{}, nil, err
	}
	return s, master, nil
}
