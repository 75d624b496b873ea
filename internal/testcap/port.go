// SPDX-License-Identifier: Apache-2.0

package testcap

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// FreePort returns a TCP port of the loopback address that nobody listens on, for a program that is told a port and takes
// it later. It lies below those that Linux gives out by itself, so that no listener or connection of another test gets
// it in between, and it is given to nobody else for as long as this process lives: also not when what listened there was
// killed, so that a test can say what happens then.
func FreePort() (int, error) {
	var err error
	for range 100 {
		port := 20_000 + rand.IntN(12_000) // spread over what is free
		if err = reserve(port); err != nil {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port))); err == nil {
			return port, l.Close()
		}
	}
	return 0, fmt.Errorf("finding a free port: %w", err)
}

// reserve takes a name that stands for the port, which the kernel gives to one socket of the machine at a time. The socket
// is closed by the end of the process.
func reserve(port int) error {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err = syscall.Bind(fd, &syscall.SockaddrUnix{Name: "@cofferdam.dev/test/port/" + strconv.Itoa(port)}); err != nil {
		err = errors.Join(err, syscall.Close(fd))
	}
	return err
}
