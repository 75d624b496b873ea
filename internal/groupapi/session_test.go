// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
	"pgregory.net/rapid"
)

// open asks for a session.
func (b *bench) session(path, body string) *reply {
	b.t.Helper()
	return b.want(b.call("POST", path, body), 200)
}

func (b *bench) connect(r *reply, header http.Header) (*websocket.Conn, error) {
	uri, _ := r.at("webSocketUri").(string)
	conn, resp, err := websocket.Dial(b.t.Context(), uri, &websocket.DialOptions{HTTPHeader: header})
	if err != nil && resp != nil {
		err = fmt.Errorf("%w: %d", err, resp.StatusCode)
	}
	return conn, err
}

// talk connects to a session with its password, sends input, and returns what it says until its end.
func (b *bench) talk(r *reply, input string) (string, websocket.CloseError) {
	b.t.Helper()
	conn, err := b.connect(r, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	password, _ := r.at("password").(string)
	err = conn.Write(b.t.Context(), websocket.MessageText, []byte(password))
	if err == nil && input != "" {
		err = conn.Write(b.t.Context(), websocket.MessageBinary, []byte(input))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return b.rest(conn)
}

func (b *bench) rest(conn *websocket.Conn) (string, websocket.CloseError) {
	b.t.Helper()
	defer func() { _ = conn.CloseNow() }()
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	var said bytes.Buffer
	for {
		_, data, err := conn.Read(ctx)
		var end websocket.CloseError
		if errors.As(err, &end) {
			return said.String(), end
		}
		if err != nil {
			b.t.Fatal(err)
		}
		said.Write(data)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.put("web", resource("img", lasting))
	exec := pathOf("web") + "/containers/main/exec"
	for name, tc := range map[string]struct {
		body, input, said string
		code              websocket.StatusCode
		reason            string
	}{
		"output and code": {`{"command": "/bin/sh -c 'echo one; echo two >&2; exit 7'"}`, "", "one\ntwo\n", 1000, "exit code 7"},
		"input":           {`{"command": "/bin/sh -c 'read x; echo got $x'"}`, "this\n", "got this\n", 1000, "exit code 0"},
		"a terminal":      {`{"command": "/bin/sh -c 'test -t 0 && echo yes'", "terminalSize": {"rows": 20, "cols": 70}}`, "", "yes\r\n", 1000, "exit code 0"},
		"binary":          {`{"command": "/bin/printf '\\377\\303'"}`, "", "\xff\xc3", 1000, "exit code 0"},
		"refused":         {`{"command": "/fake/denied --now"}`, "", "cofferdam: refused by the guest:", 1008, "refused by the guest: "},
	} {
		said, end := b.talk(b.session(exec, tc.body), tc.input)
		ordered := said == tc.said || tc.said == "one\ntwo\n" && said == "two\none\n"
		begins := tc.code == 1008 && strings.HasPrefix(said, tc.said)
		if !ordered && !begins || end.Code != tc.code || !strings.HasPrefix(end.Reason, tc.reason) {
			t.Errorf("%s: %q, %v", name, said, end)
		}
	}
	b.recorded("groups.exec")
	b.want(b.call("POST", exec, `{"command": ""}`), 400, "InvalidRequestContent")
	b.want(b.call("POST", exec, `{"command": "'open"}`), 400, "InvalidRequestContent")
	b.want(b.call("POST", exec, `{"command": "x", "more": 1}`), 400, "InvalidRequestContent")
	b.want(b.call("POST", pathOf("web")+"/containers/none/exec", `{"command": "x"}`), 404, "ContainerNotFound")
	b.want(b.call("POST", pathOf("none")+"/containers/main/exec", `{"command": "x"}`), 404, "ResourceNotFound")
}

func TestAttach(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	gate := filepath.Join(b.home, "gate")
	b.put("web", resource("img", "until test -e "+gate+"; do echo tick; sleep 0.05; done; echo hello; exit 4"))
	r := b.session(pathOf("web")+"/containers/main/attach", "")
	conn, err := b.connect(r, http.Header{"Authorization": {fmt.Sprint(r.at("password"))}})
	if err != nil {
		t.Fatal(err)
	}
	_, data, err := conn.Read(t.Context()) // from here on it is attached
	if err != nil || !strings.HasPrefix(string(data), "tick\n") {
		t.Fatalf("%q, %v", data, err)
	}
	late := b.session(pathOf("web")+"/containers/main/attach", "")
	if err = os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	said, end := b.rest(conn)
	if end.Code != 1000 || end.Reason != "exit code 4" || strings.ReplaceAll(said, "tick\n", "") != "hello\n" {
		t.Errorf("%q, %v", said, end)
	}
	// Who is attached too late misses the output, and gets the end all the same.
	b.until("web", "it ends", func(r *reply) bool { return r.at("properties", "instanceView", "state") == "Failed" })
	said, end = b.talk(late, "")
	if end.Code != 1000 || end.Reason != "exit code 4" || said != "" {
		t.Errorf("too late: %q, %v", said, end)
	}
}

// TestSessionsAreForOne connects as somebody who may not.
func TestSessionsAreForOne(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.put("web", resource("img", lasting))
	exec, body := pathOf("web")+"/containers/main/exec", `{"command": "/bin/true"}`

	r := b.session(exec, body)
	conn, err := b.connect(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err = conn.Write(t.Context(), websocket.MessageText, []byte("guess")); err != nil {
		t.Fatal(err)
	}
	if said, end := b.rest(conn); end.Code != 1008 || said != "" {
		t.Errorf("with a guess: %q, %v", said, end)
	}
	if _, err = b.connect(r, nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a second connection: %v", err)
	}
	r.body["webSocketUri"] = strings.TrimSuffix(fmt.Sprint(r.at("webSocketUri")), "A") + "B"
	if _, err = b.connect(r, nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("another session: %v", err)
	}
	b.want(b.call("GET", "/sessions/x", ""), 426)

	late := b.session(exec, body)
	b.api.tickets.mu.Lock()
	b.api.tickets.now = func() time.Time { return time.Now().Add(2 * ticketLife) }
	b.api.tickets.mu.Unlock()
	if _, err = b.connect(late, nil); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("after its time: %v", err)
	}
}

func TestTicketsAreBounded(t *testing.T) {
	t.Parallel()
	now := time.Now()
	s := &tickets{now: func() time.Time { return now }}
	for range maxTickets {
		if _, _, ok := s.issue(&ticket{}); !ok {
			t.Fatal("too few")
		}
	}
	if _, _, ok := s.issue(&ticket{}); ok {
		t.Error("too many")
	}
	now = now.Add(2 * ticketLife)
	if _, _, ok := s.issue(&ticket{}); !ok || len(s.open) != 1 {
		t.Errorf("old ones stay: %d", len(s.open))
	}
}

// TestHangUp has a client go away: its process does, too.
func TestHangUp(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.put("web", resource("img", lasting))
	r := b.session(pathOf("web")+"/containers/main/exec", `{"command": "/bin/sh -c 'echo $$; while :; do sleep 0.01; done'"}`)
	conn, err := b.connect(r, http.Header{"Authorization": {fmt.Sprint(r.at("password"))}})
	if err != nil {
		t.Fatal(err)
	}
	_, data, err := conn.Read(t.Context())
	pid, errNumber := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil || errNumber != nil {
		t.Fatalf("%q, %v", data, err)
	}
	_ = conn.CloseNow()
	for range attempts {
		if syscall.Kill(pid, 0) != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the process lives on")
}

// TestServiceEnds closes the service while somebody is connected.
func TestServiceEnds(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.put("web", resource("img", lasting))
	r := b.session(pathOf("web")+"/containers/main/exec", `{"command": "/bin/sh -c 'echo ready; sleep 600'"}`)
	conn, err := b.connect(r, http.Header{"Authorization": {fmt.Sprint(r.at("password"))}})
	if err != nil {
		t.Fatal(err)
	}
	if _, data, err := conn.Read(t.Context()); err != nil || string(data) != "ready\n" {
		t.Fatalf("%q, %v", data, err)
	}
	go b.api.Close()
	_, end := b.rest(conn)
	if end.Code != websocket.StatusGoingAway {
		t.Errorf("it ends with %v", end)
	}
}

// TestIncomplete cuts texts anywhere: no cut tears a character.
func TestIncomplete(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.String().Draw(t, "text")
		at := rapid.IntRange(0, len(text)).Draw(t, "at")
		head := []byte(text[:at])
		kept := incomplete(head)
		whole := string(head[:len(head)-kept])
		if strings.ToValidUTF8(whole, "") != whole {
			t.Fatalf("%q of %q is torn", whole, text)
		}
	})
}
