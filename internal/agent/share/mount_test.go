// SPDX-License-Identifier: Apache-2.0

package share_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/agent/machine/mount"
	"cofferdam.dev/internal/agent/share"
	host "cofferdam.dev/internal/sandbox/share"
	"cofferdam.dev/internal/testcap"
)

// mounted mounts a share of dir, and returns where and what ends the host's side.
func mounted(t *testing.T, dir string, readOnly bool) (string, func()) {
	t.Helper()
	testcap.Require(t, testcap.Root, testcap.FUSE)
	target := filepath.Join(t.TempDir(), "mnt")
	err := os.Mkdir(target, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	s, err := share.Mount(target, readOnly)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("root may not mount here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan error, 2)
	go func() { s.Serve(a); over <- nil }()
	go func() { over <- host.Serve(ctx, b, dir, readOnly) }()
	t.Cleanup(func() {
		s.Close()
		cancel()
		for range 2 {
			if err := <-over; err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("serving: %v", err)
			}
		}
		if err := mount.Detach(target); err != nil {
			t.Error(err)
		}
	})
	settlePolling(t, dir, target)
	return target, cancel
}

// settlePolling lets the kernel learn that files can not be polled. Without that opening a file here would have Go's runtime
// poll it in a way that stops the goroutines that are to answer.
func settlePolling(t *testing.T, dir, target string) {
	t.Helper()
	file := filepath.Join(dir, "polled")
	err := os.WriteFile(file, nil, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Open(filepath.Join(target, "polled"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	err = errors.Join(err, unix.Close(fd), os.Remove(file))
	if err != nil {
		t.Fatal(err)
	}
}

func content(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestKernel uses a shared directory through the kernel of the machine that runs the tests.
func TestKernel(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	check := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	check(os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600), os.Mkdir(filepath.Join(dir, "d"), 0o700),
		os.WriteFile(filepath.Join(dir, "d", "f"), []byte("from the host"), 0o700), os.Symlink(outside, filepath.Join(dir, "link")),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	target, end := mounted(t, dir, false)
	at := func(name string) string { return filepath.Join(target, name) }
	if got := content(t, at("d/f")); got != "from the host" {
		t.Errorf("reading: %q", got)
	}
	to, err := os.Readlink(at("link"))
	if err != nil || to != outside {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	info, err := os.Stat(at("d/f"))
	var st unix.Stat_t
	check(err, unix.Stat(at("d/f"), &st))
	if info.Mode() != 0o777 || st.Uid != 0 || st.Gid != 0 {
		t.Errorf("the file is %v of %d:%d", info.Mode(), st.Uid, st.Gid)
	}
	big := strings.Repeat("0123456789abcdef", 50_000)
	check(os.WriteFile(at("big"), []byte(big), 0o600), os.MkdirAll(at("a/b/c"), 0o755), os.WriteFile(at("a/x"), []byte("x"), 0o4755),
		os.Rename(at("a/b"), at("moved")), os.WriteFile(at("moved/c/new"), []byte("new"), 0o644), os.Rename(at("a/x"), at("d/f")),
		os.Chtimes(at("big"), time.Unix(5, 0), time.Unix(1_000_000_000, 7)), os.Chmod(at("big"), 0o755), os.Chown(at("big"), 5, 5))
	if content(t, filepath.Join(dir, "big")) != big || content(t, at("big")) != big || content(t, filepath.Join(dir, "moved/c/new")) != "new" ||
		content(t, filepath.Join(dir, "d/f")) != "x" {
		t.Error("the host has something else than the guest wrote")
	}
	check(unix.Stat(filepath.Join(dir, "big"), &st))
	if st.Mtim != (unix.Timespec{Sec: 1_000_000_000, Nsec: 7}) || st.Mode&0o7777 != 0o755 || st.Uid != uint32(os.Getuid()) {
		t.Errorf("the host's file is of mode %o, time %v, owner %d", st.Mode, st.Mtim, st.Uid)
	}
	check(unix.Stat(filepath.Join(dir, "d/f"), &st))
	if st.Mode&0o7000 != 0 {
		t.Errorf("the guest made a file of mode %o", st.Mode)
	}
	for i := range 300 {
		check(os.WriteFile(at("moved/"+strings.Repeat("n", 200)+string(rune('a'+i%26))+string(rune('a'+i/26))), nil, 0o644))
	}
	list, err := os.ReadDir(at("moved"))
	if err != nil || len(list) != 301 {
		t.Errorf("the directory has %d entries, %v", len(list), err)
	}
	f, err := os.OpenFile(at("big"), os.O_RDWR, 0)
	check(err)
	check(os.Remove(at("big")), f.Truncate(3))
	b := make([]byte, 10)
	n, _ := f.ReadAt(b, 0)
	_, err = f.Stat()
	check(err, f.Sync(), f.Close())
	if string(b[:n]) != "012" {
		t.Errorf("a removed file holds %q", b[:n])
	}
	for name, err := range map[string]error{
		"symbolic link": os.Symlink("/etc", at("mine")), "hard link": os.Link(at("d/f"), at("mine")), "pipe": unix.Mkfifo(at("mine"), 0o600),
		"device": unix.Mknod(at("mine"), unix.S_IFCHR|0o600, 1<<8|3),
	} {
		if err == nil {
			t.Errorf("the guest made a %s", name)
		}
	}
	check(os.RemoveAll(at("moved")), os.Remove(at("d/f")), os.Remove(at("d")))
	left, err := os.ReadDir(dir)
	if err != nil || len(left) != 3 {
		t.Errorf("left are %v, %v", left, err)
	}
	end()
	_, err = os.ReadFile(at("a/y"))
	for err == nil || errors.Is(err, fs.ErrNotExist) { // what the kernel knows it may answer a little longer
		_, err = os.ReadFile(at("a/y"))
	}
	if !errors.Is(err, unix.ENOTCONN) && !errors.Is(err, unix.ECONNABORTED) {
		t.Errorf("reading without the host: %v", err)
	}
}

func TestKernelReadOnly(t *testing.T) {
	dir := t.TempDir()
	err := os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	target, _ := mounted(t, dir, true)
	if got := content(t, filepath.Join(target, "f")); got != "text" {
		t.Errorf("reading: %q", got)
	}
	err = unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_BIND, "") // as a container may ask
	if err != nil {
		t.Fatal(err)
	}
	err = os.WriteFile(filepath.Join(target, "f"), []byte("changed"), 0o600)
	if !errors.Is(err, unix.EROFS) {
		t.Errorf("writing: %v, want that it is read-only", err)
	}
}

// TestKernelSlowHost lets a host answer nothing after the negotiation: whoever waits gets an error when the share is closed.
func TestKernelSlowHost(t *testing.T) {
	testcap.Require(t, testcap.Root, testcap.FUSE)
	target := filepath.Join(t.TempDir(), "mnt")
	err := os.Mkdir(target, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	s, err := share.Mount(target, false)
	if errors.Is(err, unix.EPERM) {
		t.Skipf("root may not mount here: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	over := make(chan struct{})
	go func() { s.Serve(a); close(over) }()
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		m := make([]byte, 4096)
		n, err := b.Read(m)
		if err != nil || n < 40 {
			return
		}
		answer := append(append([]byte{80, 0, 0, 0, 0, 0, 0, 0}, m[8:16]...), bytes.Repeat([]byte{0}, 64)...)
		answer[16], answer[20] = 7, 31
		_, _ = b.Write(answer)
		_, _ = b.Read(m) // a question
	}()
	stat := make(chan error)
	go func() {
		_, err := os.Stat(filepath.Join(target, "x"))
		stat <- err
	}()
	<-asked
	time.Sleep(2 * time.Millisecond)
	s.CloseIfStuck(time.Millisecond)
	err = <-stat
	if !errors.Is(err, unix.ECONNABORTED) && !errors.Is(err, unix.ENOTCONN) {
		t.Errorf("waiting for the host ended with %v", err)
	}
	<-over
	_ = b.Close()
	if err := mount.Detach(target); err != nil {
		t.Error(err)
	}
}
