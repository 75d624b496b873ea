// SPDX-License-Identifier: Apache-2.0

package share

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

// message is a request of the guest's kernel. Numbers become fields of their size, texts names.
func message(operation uint32, node uint64, body ...any) []byte {
	m := make([]byte, requestHeader)
	for _, x := range body {
		switch x := x.(type) {
		case uint32:
			m = binary.NativeEndian.AppendUint32(m, x)
		case uint64:
			m = binary.NativeEndian.AppendUint64(m, x)
		case string:
			m = append(append(m, x...), 0)
		case []byte:
			m = append(m, x...)
		}
	}
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint32(m[4:], operation)
	binary.NativeEndian.PutUint64(m[8:], 7)
	binary.NativeEndian.PutUint64(m[16:], node)
	return m
}

var hello = message(opInit, 0, uint32(7), uint32(41), uint32(1<<20), uint32(0xffffffff), make([]byte, 48))

// guest speaks to a served directory.
type guest struct {
	t    *testing.T
	conn net.Conn
	over chan error
}

func served(t *testing.T, dir string, readOnly bool) *guest {
	t.Helper()
	a, b := net.Pipe()
	g := &guest{t: t, conn: b, over: make(chan error, 1)}
	go func() { g.over <- Serve(context.Background(), a, dir, readOnly) }()
	t.Cleanup(func() { _ = b.Close() })
	return g
}

// ask sends a request and returns the error number and body of its answer.
func (g *guest) ask(m []byte) (unix.Errno, []byte) {
	g.t.Helper()
	_, err := g.conn.Write(m)
	if err != nil {
		g.t.Fatal(err)
	}
	head := make([]byte, answerHeader)
	_, err = io.ReadFull(g.conn, head)
	if err != nil {
		g.t.Fatal(err)
	}
	body := make([]byte, binary.NativeEndian.Uint32(head)-answerHeader)
	_, err = io.ReadFull(g.conn, body)
	if err != nil || binary.NativeEndian.Uint64(head[8:]) != 7 {
		g.t.Fatalf("answer % x: %v", head, err)
	}
	return unix.Errno(-int32(binary.NativeEndian.Uint32(head[4:]))), body
}

func (g *guest) begin() *guest {
	g.t.Helper()
	if e, body := g.ask(hello); e != 0 || len(body) != 64 || binary.NativeEndian.Uint32(body[12:]) != features {
		g.t.Fatalf("the negotiation: %v, % x", e, body)
	}
	return g
}

func (g *guest) lookup(name string) uint64 {
	g.t.Helper()
	e, body := g.ask(message(opLookup, rootID, name))
	if e != 0 {
		g.t.Fatalf("looking up %s: %v", name, e)
	}
	return binary.NativeEndian.Uint64(body)
}

// tree is a directory with links that lead out of it, beside one with a secret.
func tree(t *testing.T) (dir, outside string) {
	t.Helper()
	top := t.TempDir()
	dir, outside = filepath.Join(top, "dir"), filepath.Join(top, "outside")
	err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(outside, 0o700), os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600),
		os.Symlink(outside, filepath.Join(dir, "link")), os.Symlink("../outside/secret", filepath.Join(dir, "file-link")),
		os.WriteFile(filepath.Join(dir, "f"), []byte("text"), 0o600), os.Mkdir(filepath.Join(dir, "d"), 0o700),
		unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return dir, outside
}

// wantOutside checks that nothing outside of the directory has changed.
func wantOutside(t *testing.T, outside string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(outside, "secret"))
	list, listErr := os.ReadDir(outside)
	if err != nil || listErr != nil || string(b) != "secret" || len(list) != 1 {
		t.Errorf("outside are %v, %q, %v, %v", list, b, err, listErr)
	}
}

// TestLinksAreNotFollowed asks for what lies behind links, in each way that there is.
func TestLinksAreNotFollowed(t *testing.T) {
	t.Parallel()
	dir, outside := tree(t)
	g := served(t, dir, false).begin()
	link, fileLink, pipe := g.lookup("link"), g.lookup("file-link"), g.lookup("pipe")
	tests := map[string][]byte{
		"look-up behind a link":    message(opLookup, link, "secret"),
		"file behind a link":       message(opCreate, link, uint32(unix.O_RDWR), uint32(0o644), uint32(0), uint32(0), "new"),
		"directory behind a link":  message(opMkdir, link, uint32(0o755), uint32(0), "new"),
		"removal behind a link":    message(opUnlink, link, "secret"),
		"move to behind a link":    message(opRename, rootID, link, "f", "new"),
		"move from behind a link":  message(opRename, link, uint64(rootID), "secret", "new"),
		"link opened":              message(opOpen, fileLink, uint32(unix.O_RDWR), uint32(0)),
		"link opened by its name":  message(opCreate, rootID, uint32(unix.O_RDWR), uint32(0o644), uint32(0), uint32(0), "file-link"),
		"link made anew":           message(opMknod, rootID, uint32(unix.S_IFREG|0o644), uint32(0), uint32(0), uint32(0), "file-link"),
		"link listed":              message(opOpendir, link, uint32(0), uint32(0)),
		"link cut":                 setattr(fileLink, setSize),
		"pipe opened":              message(opOpen, pipe, uint32(unix.O_WRONLY), uint32(0)),
		"pipe opened by its name":  message(opCreate, rootID, uint32(unix.O_WRONLY), uint32(0o644), uint32(0), uint32(0), "pipe"),
		"symbolic link made":       message(opSymlink, rootID, "mine", outside),
		"hard link made":           message(opLink, rootID, fileLink, "mine"),
		"device made":              message(opMknod, rootID, uint32(unix.S_IFCHR|0o600), uint32(0x103), uint32(0), uint32(0), "mine"),
		"unknown node":             message(opGetattr, 99, make([]byte, 16)),
		"unknown handle":           message(opRead, rootID, uint64(5), uint64(0), uint32(10), make([]byte, 20)),
		"names exchanged":          message(opRename2, rootID, uint64(rootID), uint32(unix.RENAME_EXCHANGE), uint32(0), "f", "link"),
		"attribute beyond all":     message(22, rootID, uint32(10), uint32(0), "user.x"),
		"read at a negative place": message(opRead, rootID, uint64(1), uint64(1<<63), uint32(10), make([]byte, 20)),
	}
	for name, m := range tests {
		if e, body := g.ask(m); e == 0 || len(body) != 0 {
			t.Errorf("%s: %v, % x", name, e, body)
		}
	}
	wantOutside(t, outside)
	e, body := g.ask(message(opReadlink, fileLink))
	if e != 0 || string(body) != "../outside/secret" {
		t.Errorf("the link's text: %v, %q", e, body)
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 5 {
		t.Errorf("the directory holds %v, %v", list, err)
	}
}

func setattr(node uint64, valid uint32) []byte {
	b := make([]byte, 88)
	binary.NativeEndian.PutUint32(b, valid)
	return message(opSetattr, node, b)
}

// TestSwappedForALink replaces a directory and a file that the guest knows by links, as a process on the host could.
func TestSwappedForALink(t *testing.T) {
	t.Parallel()
	dir, outside := tree(t)
	g := served(t, dir, false).begin()
	d, f := g.lookup("d"), g.lookup("f")
	err := errors.Join(os.Remove(filepath.Join(dir, "d")), os.Symlink(outside, filepath.Join(dir, "d")),
		os.Remove(filepath.Join(dir, "f")), os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "f")))
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string][]byte{
		"look-up": message(opLookup, d, "secret"), "opened": message(opOpen, f, uint32(unix.O_RDWR), uint32(0)), "cut": setattr(f, setSize),
	} {
		if e, _ := g.ask(m); e == 0 {
			t.Errorf("%s: a link was followed", name)
		}
	}
	wantOutside(t, outside)
}

func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir, _ := tree(t)
	g := served(t, dir, true).begin()
	f := g.lookup("f")
	for name, m := range map[string][]byte{
		"open":   message(opOpen, f, uint32(unix.O_RDWR), uint32(0)),
		"create": message(opCreate, rootID, uint32(unix.O_RDWR), uint32(0o644), uint32(0), uint32(0), "new"),
		"mknod":  message(opMknod, rootID, uint32(unix.S_IFREG), uint32(0), uint32(0), uint32(0), "new"),
		"mkdir":  message(opMkdir, rootID, uint32(0), uint32(0), "new"), "unlink": message(opUnlink, rootID, "f"),
		"rmdir": message(opRmdir, rootID, "d"), "rename": message(opRename, rootID, uint64(rootID), "f", "g"), "setattr": setattr(f, setSize),
		"write": message(opWrite, f, uint64(1), uint64(0), uint32(1), make([]byte, 20), []byte("x")),
	} {
		if e, _ := g.ask(m); e != unix.EROFS {
			t.Errorf("%s: %v, want %v", name, e, unix.EROFS)
		}
	}
	if list, err := os.ReadDir(dir); err != nil || len(list) != 5 {
		t.Errorf("the directory holds %v, %v", list, err)
	}
}

// TestMalformedMessages ends the service for what no kernel sends.
func TestMalformedMessages(t *testing.T) {
	t.Parallel()
	long := message(opLookup, rootID, "f")
	binary.NativeEndian.PutUint32(long, maxMessage+1)
	short := message(opLookup, rootID, "f")
	binary.NativeEndian.PutUint32(short, requestHeader-1)
	extended := message(opLookup, rootID, "f")
	extended[36] = 1
	tests := map[string][]byte{
		"too long": long, "too short": short, "extensions": extended, "second negotiation": hello,
		"name without end":  message(opLookup, rootID, []byte("f")),
		"name empty":        message(opLookup, rootID, ""),
		"name climbs":       message(opLookup, rootID, ".."),
		"name of itself":    message(opUnlink, rootID, "."),
		"name with a slash": message(opLookup, rootID, "d/../../outside"),
		"more than a name":  message(opLookup, rootID, "f", "g"),
		"fields missing":    message(opRead, rootID, uint64(1)),
		"fields too many":   message(opGetattr, rootID, make([]byte, 17)),
		"write of less":     message(opWrite, rootID, uint64(1), uint64(0), uint32(10), make([]byte, 20), []byte("x")),
		"write of too much": message(opWrite, rootID, uint64(1), uint64(0), uint32(maxData+1), make([]byte, 20), []byte("x")),
		"forget of many":    message(opBatchForget, 0, uint32(1<<31), uint32(0), uint64(2), uint64(1)),
	}
	for name, m := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, outside := tree(t)
			g := served(t, dir, false).begin()
			_, err := g.conn.Write(m)
			if err != nil && name != "too long" && name != "too short" { // these are refused by their first bytes
				t.Fatal(err)
			}
			if err = <-g.over; !errors.Is(err, ErrProtocol) {
				t.Errorf("serving ended with %v", err)
			}
			wantOutside(t, outside)
		})
	}
	dir, _ := tree(t)
	g := served(t, dir, false)
	_, err := g.conn.Write(message(opLookup, rootID, "f"))
	if err != nil {
		t.Fatal(err)
	}
	if err = <-g.over; !errors.Is(err, ErrProtocol) {
		t.Errorf("a request before the negotiation: %v", err)
	}
}

// TestBounds has the guest open and learn more than it may.
func TestBounds(t *testing.T) {
	t.Parallel()
	dir, _ := tree(t)
	g := served(t, dir, false).begin()
	f := g.lookup("f")
	for range maxHandles {
		if e, _ := g.ask(message(opOpen, f, uint32(unix.O_RDONLY), uint32(0))); e != 0 {
			t.Fatal(e)
		}
	}
	if e, _ := g.ask(message(opOpen, f, uint32(unix.O_RDONLY), uint32(0))); e != unix.ENFILE {
		t.Errorf("one more than %d: %v", maxHandles, e)
	}
	if e, body := g.ask(message(opRead, f, uint64(1), uint64(0), uint32(0xffffffff), make([]byte, 20))); e != 0 || string(body) != "text" {
		t.Errorf("reading all: %v, %q", e, body)
	}
	_, err := g.conn.Write(message(opForget, f, uint64(1)))
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := g.ask(message(opGetattr, f, make([]byte, 16))); e != unix.ESTALE {
		t.Errorf("a node that was forgotten: %v", e)
	}
	_, err = g.conn.Write(message(opForget, rootID, uint64(1<<40)))
	if err != nil {
		t.Fatal(err)
	}
	if e, _ := g.ask(message(opGetattr, rootID, make([]byte, 16))); e != 0 {
		t.Errorf("the directory itself was forgotten: %v", e)
	}
	deep := uint64(rootID)
	name := strings.Repeat("n", maxName)
	for range 20 { // 20 × 256 bytes are more than a path may have
		e, body := g.ask(message(opMkdir, deep, uint32(0), uint32(0), name))
		if e == unix.ENAMETOOLONG {
			return
		}
		if e != 0 {
			t.Fatal(e)
		}
		deep = binary.NativeEndian.Uint64(body)
	}
	t.Error("a path grew beyond all bounds")
}

func TestServeEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := served(t, dir, false).begin()
	_ = g.conn.Close()
	if err := <-g.over; err != nil {
		t.Errorf("after the guest has gone: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a, b := net.Pipe()
	defer func() { _ = b.Close() }()
	over := make(chan error, 1)
	go func() { over <- Serve(ctx, a, dir, false) }()
	cancel()
	if err := <-over; !errors.Is(err, context.Canceled) {
		t.Errorf("after its context has ended: %v", err)
	}
	a, b = net.Pipe()
	go func() { over <- Serve(t.Context(), a, filepath.Join(dir, "nothing"), false) }()
	_, err := b.Read(make([]byte, 1))
	if !errors.Is(err, io.EOF) || !errors.Is(<-over, os.ErrNotExist) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// FuzzServe sends bytes of any content after the negotiation. Nothing outside of the directory changes.
func FuzzServe(f *testing.F) {
	f.Add(bytes.Join([][]byte{message(opLookup, rootID, "link"), message(opLookup, 2, "secret"), message(opUnlink, 2, "secret")}, nil))
	f.Add(bytes.Join([][]byte{
		message(opCreate, rootID, uint32(unix.O_RDWR), uint32(0o755), uint32(0), uint32(0), "new"),
		message(opWrite, 2, uint64(1), uint64(3), uint32(4), make([]byte, 20), []byte("data")), setattr(2, 0x1ff),
		message(opRename, rootID, uint64(rootID), "new", "d"), message(opRelease, 2, uint64(1), make([]byte, 16)),
	}, nil))
	f.Add(bytes.Join([][]byte{
		message(opOpendir, rootID, uint64(0)), message(opReaddir, rootID, uint64(1), uint64(0), uint32(400), make([]byte, 20)), message(opStatfs, rootID),
	}, nil))
	f.Fuzz(func(t *testing.T, in []byte) {
		dir, outside := tree(t)
		root, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		s := &server{root: root, nodes: newNodes(), handles: handles{}}
		defer s.close()
		_ = s.serve(struct {
			io.Reader
			io.Writer
		}{io.MultiReader(bytes.NewReader(hello), bytes.NewReader(in)), io.Discard})
		wantOutside(t, outside)
	})
}
