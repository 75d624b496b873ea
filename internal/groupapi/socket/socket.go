// SPDX-License-Identifier: Apache-2.0

// Package socket is the Unix socket of a service on this machine: made by the service, or handed over by systemd.
//
// Who may open the socket is decided by its file's mode and directory, and nothing else. The kernel says which user did;
// that is noted and gives no right by itself. The package trusts the kernel and the environment of its process.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/auth"
)

// firstFD is where systemd puts the sockets that it hands over (sd_listen_fds(3)).
const firstFD = 3

// ErrNotActivated says that no socket was handed over.
var ErrNotActivated = errors.New("no socket was handed over")

// Activated returns the socket that systemd handed over to this process, which forgets about it: programs that it starts do
// not get the socket.
func Activated() (net.Listener, error) {
	pid, count := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name) // a name without = and NUL
	}
	if count == "" || pid != strconv.Itoa(os.Getpid()) {
		return nil, ErrNotActivated
	}
	if count != "1" {
		return nil, fmt.Errorf("systemd hands over %s sockets; want one", count)
	}
	unix.CloseOnExec(firstFD)
	f := os.NewFile(firstFD, "socket")
	defer func() { _ = f.Close() }() // FileListener works on a copy
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("taking over the socket of systemd: %w", err)
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // its file is systemd's
		return &listener{u}, nil
	}
	return l, nil
}

// Listen makes a Unix socket that only this user can open. A file that is there is replaced if it is a socket on which nobody
// listens.
func Listen(path string) (net.Listener, error) {
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("making the socket %s: %w", path, err)
	}
	return &listener{l}, nil
}

func listen(path string) (*net.UnixListener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, errors.New("something that is no socket is there")
	default:
		c, err := net.Dial("unix", path)
		if err == nil {
			_ = c.Close() // nothing was said
			return nil, errors.New("another process listens there")
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return nil, err
		}
		err = os.Remove(path)
		if err != nil {
			return nil, err
		}
	}
	// The mode is set while nobody can connect yet: the mask is the process's, so it is not touched.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	defer func() { _ = f.Close() }() // FileListener works on a copy
	err = unix.Bind(fd, &unix.SockaddrUnix{Name: path})
	if err == nil {
		err = os.Chmod(path, 0o600)
	}
	if err == nil {
		err = unix.Listen(fd, unix.SOMAXCONN)
	}
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	u, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(errors.New("it is no Unix socket"), l.Close())
	}
	u.SetUnlinkOnClose(true)
	return u, nil
}

// listener tells of each connection whose it is.
type listener struct{ *net.UnixListener }

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.AcceptUnix()
	if err != nil {
		return nil, err
	}
	return &conn{UnixConn: c, peer: peer(c)}, nil
}

// peerPrefix begins the address of a client of a Unix socket.
const peerPrefix = "user:"

// address is that of a client of a Unix socket: who it is.
type address string

// Network implements net.Addr.
func (address) Network() string { return "unix" }

// String implements net.Addr.
func (a address) String() string { return string(a) }

type conn struct {
	*net.UnixConn
	peer address
}

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return c.peer }

// peer asks the kernel whose process opened the connection.
func peer(c *net.UnixConn) address {
	raw, err := c.SyscallConn()
	who := "unknown"
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
			if err == nil {
				who = strconv.FormatUint(uint64(cred.Uid), 10)
			}
		})
	}
	if err != nil {
		who = "unknown"
	}
	return address(peerPrefix + who)
}

// Peers knows whoever came through the service's Unix socket.
type Peers struct {
	// Roles are what they may do.
	Roles []auth.Role
}

var _ auth.Authenticator = Peers{}

// Authenticate implements auth.Authenticator.
func (p Peers) Authenticate(r *http.Request) (*auth.Identity, error) {
	user, ok := strings.CutPrefix(r.RemoteAddr, peerPrefix)
	if !ok {
		return nil, auth.ErrNoCredentials
	}
	return &auth.Identity{Method: "socket", Issuer: "kernel", Subject: "user " + user, Roles: p.Roles}, nil
}
