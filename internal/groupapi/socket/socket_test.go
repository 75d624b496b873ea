// SPDX-License-Identifier: Apache-2.0

package socket

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/testcap"
)

// The test binary is also a service that systemd starts: a shell sets LISTEN_PID to the process that it becomes.
func TestMain(m *testing.M) {
	if os.Getenv("TEST_ACTIVATED") != "" {
		l, err := Activated()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if os.Getenv("LISTEN_FDS") != "" {
			os.Exit(2)
		}
		c, err := l.Accept()
		if err == nil {
			_, err = fmt.Fprint(c, c.RemoteAddr())
			_ = c.Close()
		}
		if err != nil {
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(testcap.NoLeaks(m))
}

func TestListen(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err = Listen(path); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second time: %v", err)
	}
	var who *auth.Identity
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		who, _ = Peers{[]auth.Role{"operator"}}.Authenticate(r)
	})}
	go func() { _ = srv.Serve(l) }()
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}}
	resp, err := c.Get("http://localhost/")
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if !who.Has("operator") || who.Subject != "user "+strconv.Itoa(os.Getuid()) {
		t.Errorf("the client is %v", who)
	}
	_ = srv.Close()
	if _, err = os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

// TestListenAgain replaces what a killed service has left, and nothing else.
func TestListenAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	// Nobody ever listens here: a process that another test is just starting may have a copy of the socket for a while.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: path}), unix.Close(fd))
	}
	if err != nil {
		t.Fatal(err)
	}
	again, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	_ = again.Close()
	if err = os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = Listen(path); err == nil {
		t.Error("a file was replaced")
	}
}

// TestOnlyOurs makes sure that clients of other sockets are nobody.
func TestOnlyOurs(t *testing.T) {
	t.Parallel()
	for _, a := range []string{"127.0.0.1:1", "", "@", "[::1]:2"} {
		if _, err := (Peers{}).Authenticate(&http.Request{RemoteAddr: a}); !errors.Is(err, auth.ErrNoCredentials) {
			t.Errorf("%q: %v", a, err)
		}
	}
}

func TestActivated(t *testing.T) {
	t.Parallel()
	if _, err := Activated(); !errors.Is(err, ErrNotActivated) {
		t.Errorf("without systemd: %v", err)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: path})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	f, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0"`, self)
	cmd.Env = append(os.Environ(), "TEST_ACTIVATED=1", "LISTEN_FDS=1")
	cmd.ExtraFiles = []*os.File{f}
	cmd.Stderr = os.Stderr
	if err = cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	_ = f.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	got, err := io.ReadAll(c)
	_ = c.Close()
	if err = errors.Join(err, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if want := peerPrefix + strconv.Itoa(os.Getuid()); string(got) != want {
		t.Errorf("the client is %q, want %q", got, want)
	}
}
