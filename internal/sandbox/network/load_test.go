// SPDX-License-Identifier: Apache-2.0

package network

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
)

// loadPatience is for connections that wait for hundreds of others on a slow machine.
const loadPatience = 10 * time.Minute

// TestManyConnections has 200 connections open at once through a forwarded port, in each of which both sides speak, and
// then one more.
func TestManyConnections(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("carries hundreds of connections")
	}
	n, m := start(t, Config{Mode: Ingress, Forwards: []Forward{{Protocol: "tcp", HostIP: "127.0.0.1", GuestPort: 80}}})
	echo(t, m.listen(t, 80))
	const many = 200
	var open, done sync.WaitGroup
	open.Add(many)
	failures := make(chan error, many)
	for i := range many {
		done.Go(func() {
			err := converse(n.Forwards()[0], i, func() { open.Done(); open.Wait() })
			if err != nil {
				failures <- fmt.Errorf("connection %d: %w", i, err)
			}
		})
	}
	done.Wait()
	close(failures)
	for err := range failures {
		t.Error(err)
	}
	if err := converse(n.Forwards()[0], many, func() {}); err != nil {
		t.Errorf("one more: %v", err)
	}
}

// converse connects, waits for all others, says something, and expects to hear it again.
func converse(f Forward, i int, together func()) error {
	c, err := net.DialTimeout("tcp", strings.TrimSuffix(f.String(), "/tcp"), loadPatience)
	together() // also when it failed: others wait
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(loadPatience))
	want := bytes.Repeat(fmt.Appendf(nil, "%08d", i), 1000)
	_, err = c.Write(want)
	if err == nil {
		err = c.(*net.TCPConn).CloseWrite()
	}
	if err != nil {
		return err
	}
	got, err := io.ReadAll(c)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, append([]byte("echo: "), want...)) {
		return fmt.Errorf("answer has %d bytes, want %d", len(got), len(want)+6)
	}
	return nil
}

// TestLargeTransfer carries 16 MiB in, which the guest reads slowly at first, and the same out again.
func TestLargeTransfer(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("carries much")
	}
	n, m := start(t, Config{Mode: Ingress, Forwards: []Forward{{Protocol: "tcp", HostIP: "127.0.0.1", GuestPort: 80}}})
	l := m.listen(t, 80)
	const size = 16 << 20
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			served <- err
			return
		}
		defer func() { _ = c.Close() }()
		time.Sleep(200 * time.Millisecond) // the window fills
		data, err := io.ReadAll(io.LimitReader(c, size))
		if err == nil {
			_, err = c.Write(data)
		}
		served <- err
	}()
	c := dialTCP(t, n.Forwards()[0])
	_ = c.SetDeadline(time.Now().Add(loadPatience))
	want := bytes.Repeat([]byte("sixteen bytes..."), size/16)
	go func() { _, _ = c.Write(want) }() // what is missing is missed below
	got, err := io.ReadAll(io.LimitReader(c, size))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes came back, %v", len(got), err)
	}
	_ = c.Close() // or else the guest waits for what is missing
	if err = <-served; err != nil {
		t.Error(err)
	}
}

// TestHalfClosedByTheGuest has the guest end its direction first: what the host says afterwards still arrives.
func TestHalfClosedByTheGuest(t *testing.T) {
	t.Parallel()
	n, m := start(t, Config{Mode: Ingress, Forwards: []Forward{{Protocol: "tcp", HostIP: "127.0.0.1", GuestPort: 80}}})
	l := m.listen(t, 80)
	heard := make(chan string, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			heard <- err.Error()
			return
		}
		defer func() { _ = c.Close() }()
		_, _ = c.Write([]byte("greeting"))
		_ = c.(*gonet.TCPConn).CloseWrite()
		data, err := io.ReadAll(c)
		heard <- string(data) + fmt.Sprint(err)
	}()
	c := dialTCP(t, n.Forwards()[0])
	_ = c.SetDeadline(time.Now().Add(loadPatience))
	got, err := io.ReadAll(c)
	if err != nil || string(got) != "greeting" {
		t.Errorf("the guest said %q, %v", got, err)
	}
	_, err = c.Write([]byte("answer"))
	err = errors.Join(err, c.CloseWrite())
	if err != nil {
		t.Fatal(err)
	}
	if got := <-heard; got != "answer<nil>" {
		t.Errorf("the guest heard %q", got)
	}
}

// TestManyDatagramPeers has 50 peers send to a forwarded port at once; each gets its own answer.
func TestManyDatagramPeers(t *testing.T) {
	t.Parallel()
	n := answeringDatagrams(t)
	var all sync.WaitGroup
	for i := range 50 {
		all.Go(func() {
			text := fmt.Sprintf("peer %d", i)
			got, err := exchange(strings.TrimSuffix(n.Forwards()[0].String(), "/udp"), text)
			if err != nil || got != "re: "+text {
				t.Errorf("%s heard %q, %v", text, got, err)
			}
		})
	}
	all.Wait()
}

// exchange sends a datagram until there is an answer, as whoever uses datagrams must.
func exchange(to, text string) (string, error) {
	c, err := net.Dial("udp", to)
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }()
	got, err := asked(c, []byte(text), []byte(text))
	return string(got), err
}

// asked is exchange on a connection that is there. Answers without a mark are passed over: they are late, to something else.
func asked(c net.Conn, question, mark []byte) ([]byte, error) {
	buf := make([]byte, 512)
	for end := time.Now().Add(loadPatience); ; {
		_, err := c.Write(question)
		if err != nil {
			return nil, err
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		n, err := c.Read(buf)
		for err == nil && !bytes.Contains(buf[:n], mark) {
			n, err = c.Read(buf)
		}
		if err == nil || time.Now().After(end) {
			return buf[:n], err
		}
	}
}
