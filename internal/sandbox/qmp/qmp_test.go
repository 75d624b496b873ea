// SPDX-License-Identifier: Apache-2.0

package qmp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"cofferdam.dev/internal/testcap"
)

func TestMain(m *testing.M) { os.Exit(testcap.NoLeaks(m)) }

const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": ["oob"]}}` + "\n"

// serve plays QEMU on one end of a pipe: it sends first, and then answers each command with what answer returns.
func serve(t *testing.T, first string, answer func(line string) string) net.Conn {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() { _ = theirs.Close() }()
		_, err := theirs.Write([]byte(first))
		if err != nil {
			return
		}
		s := bufio.NewScanner(theirs)
		for s.Scan() {
			_, err = theirs.Write([]byte(answer(s.Text())))
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = ours.Close()
		<-done
	})
	return ours
}

func ok(string) string { return `{"return": {}}` + "\n" }

func TestStatusAndEvents(t *testing.T) {
	t.Parallel()
	conn := serve(t, greeting, func(line string) string {
		if strings.Contains(line, "query-status") {
			return `{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}, "timestamp": {"seconds": 1}}` + "\n" +
				`{"return": {"status": "running", "running": true}}` + "\n"
		}
		return ok(line)
	})
	c, err := New(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	status, err := c.Status(t.Context())
	if err != nil || status != "running" {
		t.Errorf("status is %q, %v", status, err)
	}
	want := Event{Name: "SHUTDOWN", Reason: "guest-reset"}
	if e := <-c.Events(); e != want {
		t.Errorf("event is %+v, want %+v", e, want)
	}
	err = c.Close()
	if err != nil {
		t.Error(err)
	}
	if _, more := <-c.Events(); more {
		t.Error("events go on after Close")
	}
}

// QEMU may end right after its answer. What it said before counts: a machine's last words tell why it ended.
func TestLastWords(t *testing.T) {
	t.Parallel()
	for range 100 {
		ours, theirs := net.Pipe()
		go func() {
			defer func() { _ = theirs.Close() }()
			_, _ = theirs.Write([]byte(greeting))
			_, _ = bufio.NewReader(theirs).ReadString('\n')
			_, _ = theirs.Write([]byte(ok("") + `{"event": "BLOCK_IO_ERROR", "data": {"reason": "no space left on device"}}` + "\n"))
		}()
		c, err := New(t.Context(), ours)
		if err != nil {
			t.Fatal(err)
		}
		e := <-c.Events()
		if e.Name != "BLOCK_IO_ERROR" || !e.NoSpace {
			t.Fatalf("event is %+v", e)
		}
		_ = c.Close()
	}
}

func TestRefusal(t *testing.T) {
	t.Parallel()
	conn := serve(t, greeting, func(line string) string {
		if strings.Contains(line, "quit") {
			return `{"error": {"class": "GenericError", "desc": "not now"}}` + "\n"
		}
		return ok(line)
	})
	c, err := New(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	err = c.Quit(t.Context())
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Description != "not now" {
		t.Errorf("error is %v, want the refusal", err)
	}
}

func TestBadPeers(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first, want string
	}{
		"not JSON":       {"hello\n", "reading a monitor message"},
		"no greeting":    {`{"return": {}}` + "\n", "greeting is missing"},
		"two greetings":  {greeting + greeting, "comes twice"},
		"two kinds":      {`{"return": {}, "event": "RESET"}` + "\n", "of 2 kinds"},
		"no kind":        {"{}\n", "of 0 kinds"},
		"unasked answer": {greeting + `{"return": {}}` + "\n" + `{"return": {}}` + "\n" + `{"return": {}}` + "\n", "not asked"},
		"endless line":   {strings.Repeat("x", maxLine+1), "token too long"},
		"early end":      {"", ErrClosed.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := net.Pipe()
			go func() {
				go func() { _, _ = bufio.NewReader(theirs).ReadString('\n') }()
				_, _ = theirs.Write([]byte(c.first))
				_ = theirs.Close()
			}()
			client, err := New(t.Context(), ours)
			if err == nil {
				for range client.Events() { // the error comes after the greeting
				}
				err = client.Err()
				_ = client.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is %v, want %q", err, c.want)
			}
		})
	}
}

func TestSilentPeer(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer func() { _ = theirs.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := New(ctx, ours)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error is %v, want a deadline", err)
	}
}

func TestFloodOfEvents(t *testing.T) {
	t.Parallel()
	var flood bytes.Buffer
	flood.WriteString(greeting)
	for i := range 10 * maxEvents {
		fmt.Fprintf(&flood, `{"event": "E%d"}`+"\n", i)
	}
	c, err := New(t.Context(), serve(t, flood.String(), ok))
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Status(t.Context())
	if err != nil {
		t.Errorf("a flood of events stops commands: %v", err)
	}
	if e := <-c.Events(); e.Name != "E0" {
		t.Errorf("first event is %s, want E0", e.Name)
	}
	_ = c.Close()
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(greeting))
	f.Add([]byte(`{"event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-shutdown"}}`))
	f.Add([]byte(`{"return": {"status": "running"}}`))
	f.Add([]byte(`{"error": {"class": "GenericError", "desc": "no"}}`))
	f.Add([]byte(`{"return": null, "event": "x"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := parse(line)
		if err != nil {
			return
		}
		_ = m.event()
		var s struct{ Status string }
		if m.Error != nil || m.Return != nil {
			_ = m.result("x", &s)
		}
	})
}
