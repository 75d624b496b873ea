// SPDX-License-Identifier: Apache-2.0

package container

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

// tcpPair returns the two ends of a connection that can be closed half, as a channel's streams can.
func tcpPair(t *testing.T) (guest, host *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = c.Close(), s.Close() })
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// goneHost is a connection of a channel that has ended or will.
type goneHost struct {
	net.Conn
	done chan struct{}
}

func (g goneHost) ChannelDone() <-chan struct{} { return g.done }

// TestInputEndsWithTheHost has a process that reads nothing, and a host that goes away.
func TestInputEndsWithTheHost(t *testing.T) {
	p := testPipes(t)
	guest, host := tcpPair(t)
	g := goneHost{guest, make(chan struct{})}
	done := serve(p.streams.Stdin, g)
	_, err := host.Write(make([]byte, 1<<17)) // more than a pipe holds
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-done:
		t.Error("serving ended before the host went away")
	case <-time.After(50 * time.Millisecond):
	}
	_ = host.Close()
	close(g.done)
	finished(t, done)
}

func serve(s *Stream, c net.Conn) chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Serve(c)
	}()
	return done
}

func finished(t *testing.T, done chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(2 * time.Minute):
		t.Fatal("serving the stream does not end")
	}
}

func testPipes(t *testing.T) *pipes {
	t.Helper()
	p, err := newPipes(Stdio{Stdin: true, Stdout: true, Stderr: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.closeAll)
	return p
}

func TestOutputArrivesWhole(t *testing.T) {
	p := testPipes(t)
	want := make([]byte, 1<<20)
	_, _ = rand.Read(want)
	go func() {
		_, _ = p.child[1].Write(want)
		_ = p.child[1].Close()
	}()
	guest, host := tcpPair(t)
	done := serve(p.streams.Stdout, guest)
	got, err := io.ReadAll(host)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d of %d bytes arrived, %v", len(got), len(want), err)
	}
	finished(t, done)
}

// TestOutputBeforeTheHostComes checks that what a short process wrote waits for the host.
func TestOutputBeforeTheHostComes(t *testing.T) {
	p := testPipes(t)
	_, err := p.child[1].WriteString("quick")
	if err != nil {
		t.Fatal(err)
	}
	p.closeChild()
	h := NewHandle(1, p.streams, nil, nil)
	h.End(Exit{})
	guest, host := tcpPair(t)
	done := serve(p.streams.Stdout, guest)
	got, err := io.ReadAll(host)
	if err != nil || string(got) != "quick" {
		t.Fatalf("output is %q, %v", got, err)
	}
	finished(t, done)
}

// TestHostStopsReading checks that the process sees a broken pipe, also while it writes nothing.
func TestHostStopsReading(t *testing.T) {
	p := testPipes(t)
	guest, host := tcpPair(t)
	done := serve(p.streams.Stdout, guest)
	_ = host.Close()
	finished(t, done)
	_, err := p.child[1].WriteString("x")
	if !errors.Is(err, unix.EPIPE) {
		t.Fatalf("writing gives %v, want %v", err, unix.EPIPE)
	}
}

func TestInputEnds(t *testing.T) {
	p := testPipes(t)
	guest, host := tcpPair(t)
	done := serve(p.streams.Stdin, guest)
	_, err := host.Write([]byte("line\n"))
	if err == nil {
		err = host.CloseWrite()
	}
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(p.child[0])
	if err != nil || string(got) != "line\n" {
		t.Fatalf("the process reads %q, %v", got, err)
	}
	finished(t, done)
}

// TestInputEndsWithTheProcess checks that a host that keeps its end open holds up nothing.
func TestInputEndsWithTheProcess(t *testing.T) {
	p := testPipes(t)
	guest, _ := tcpPair(t)
	done := serve(p.streams.Stdin, guest)
	h := NewHandle(1, p.streams, nil, nil)
	h.End(Exit{Code: 1})
	finished(t, done)
	late, _ := tcpPair(t)
	finished(t, serve(p.streams.Stdin, late)) // after the end there is nothing to serve
}

func TestUnservedStreamsAreClosed(t *testing.T) {
	p := testPipes(t)
	h := NewHandle(1, p.streams, nil, nil)
	h.CloseUnservedStreams()
	_, err := p.child[1].WriteString("x")
	if !errors.Is(err, unix.EPIPE) {
		t.Fatalf("writing gives %v, want %v", err, unix.EPIPE)
	}
}

func TestTerminal(t *testing.T) {
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	streams, err := terminalStreams(Stdio{Stdin: true, Stdout: true, Terminal: true}, master)
	if err != nil {
		t.Fatal(err)
	}
	h := NewHandle(1, streams, master, nil)
	err = h.Resize(132, 43)
	if err != nil {
		t.Fatal(err)
	}
	rows, columns, err := pty.Getsize(slave)
	if err != nil || rows != 43 || columns != 132 {
		t.Errorf("size is %d × %d, %v", columns, rows, err)
	}
	guestIn, hostIn := tcpPair(t)
	in := serve(streams.Stdin, guestIn)
	guestOut, hostOut := tcpPair(t)
	out := serve(streams.Stdout, guestOut)
	_, err = hostIn.Write([]byte("typed\n"))
	if err != nil {
		t.Fatal(err)
	}
	line := make([]byte, 64)
	n, err := slave.Read(line)
	if err != nil || string(line[:n]) != "typed\n" {
		t.Errorf("the process reads %q, %v", line[:n], err)
	}
	_ = slave.Close() // the process ends
	h.End(Exit{})
	echo, err := io.ReadAll(hostOut)
	if err != nil || string(echo) != "typed\r\n" {
		t.Errorf("the terminal shows %q, %v", echo, err)
	}
	finished(t, in)
	finished(t, out)
	if h.Terminal() || !errors.Is(h.Resize(1, 1), ErrEnded) {
		t.Error("an ended process has a terminal")
	}
}

func TestSignalsEndWithTheProcess(t *testing.T) {
	sent := 0
	h := NewHandle(1, Streams{}, nil, func(unix.Signal) error {
		sent++
		return nil
	})
	if err := h.Signal(unix.SIGTERM); err != nil || sent != 1 {
		t.Fatalf("signal: %v, %d sent", err, sent)
	}
	h.End(Exit{Code: 3})
	h.End(Exit{Code: 4})
	if err := h.Signal(unix.SIGTERM); !errors.Is(err, ErrEnded) || sent != 1 {
		t.Fatalf("signal after the end: %v, %d sent", err, sent)
	}
	if h.Exit().Code != 3 {
		t.Errorf("exit code is %d, want that of the first end", h.Exit().Code)
	}
}

// TestConsole receives a terminal as the runtime sends it.
func TestConsole(t *testing.T) {
	con, err := newConsole(t.TempDir() + "/s")
	if err != nil {
		t.Fatal(err)
	}
	defer con.close()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = r.Close(), w.Close() }()
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: con.path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = c.WriteMsgUnix([]byte("/dev/pts/0"), unix.UnixRights(int(w.Fd())), nil)
	if err != nil {
		t.Fatal(err)
	}
	f, err := con.receive()
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.WriteString("same file")
	_, _ = f.Close(), c.Close()
	_ = w.Close()
	got, err := io.ReadAll(r)
	if err != nil || string(got) != "same file" {
		t.Errorf("through the received file: %q, %v", got, err)
	}
}
