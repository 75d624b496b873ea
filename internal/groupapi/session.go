// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/group"
	"cofferdam.dev/internal/group/event"
)

const (
	// passwordPatience is how long a connection may take to send its password.
	passwordPatience = 10 * time.Second
	// maxMessage bounds a message of a client in bytes.
	maxMessage = 1 << 20
	// pingEvery is how often it is looked whether a client is still there, pingPatience how long it may take to answer.
	pingEvery    = 30 * time.Second
	pingPatience = 30 * time.Second
	// lastOutput is how long output may take to end after its process has: something may hold it open for ever.
	lastOutput = 10 * time.Second
	// hangUpPatience is how long a process may take to follow the hang-up of its session before it is killed.
	hangUpPatience = 2 * time.Second
	// maxReason is the length of the reason of a close frame at most, in bytes (RFC 6455, section 5.5).
	maxReason = 123
)

// session is a connection to a process.
type session struct {
	conn   *websocket.Conn
	ticket *ticket
	client *group.Client
}

// connect is the other side of a promised session. Whoever connects proves that it is theirs by the password: in the
// Authorization header, or as the first message.
func (a *API) connect(w http.ResponseWriter, r *http.Request, p params) *armError {
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		return failure(http.StatusUpgradeRequired, "UpgradeRequired", "", "This is for WebSocket connections.")
	}
	t := a.tickets.take(p["sessionId"])
	if t == nil {
		return failure(http.StatusNotFound, "SessionNotFound", "", "The session is over, or was never there: it is good for one connection within a minute.")
	}
	conn, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return nil // answered already
	}
	done := make(chan struct{})
	proved := t.proves(r.Header.Get("Authorization"))
	if !a.spawn(func() {
		defer close(done)
		s := &session{conn: conn, ticket: t}
		s.serve(a.ctx, proved)
	}) {
		_ = conn.Close(websocket.StatusGoingAway, "the service ends") // the client may be gone
		return nil
	}
	<-done // the connection counts as a request as long as it lasts
	return nil
}

// serve lasts until the process has ended or the client is gone.
func (s *session) serve(ctx context.Context, proved bool) {
	defer func() { _ = s.conn.CloseNow() }() // it is closed already, or nobody is there
	if !proved && !s.password(ctx) {
		_ = s.conn.Close(websocket.StatusPolicyViolation, "the password is not this session's") // the client may be gone
		return
	}
	var err error
	s.client, err = group.DialDir(s.ticket.dir)
	if err != nil {
		s.unanswered(ctx, err)
		return
	}
	defer func() { _ = s.client.Close() }() // the process has ended, or is beyond reach
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if s.ticket.exec == nil {
		streams, err := s.client.Attach(ctx, group.AttachOptions{Container: s.ticket.container})
		s.converse(ctx, cancel, "", streams, err)
		return
	}
	id, streams, err := s.client.Exec(ctx, *s.ticket.exec)
	s.converse(ctx, cancel, id, streams, err)
}

// password reads the first message.
func (s *session) password(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, passwordPatience)
	defer cancel()
	_, data, err := s.conn.Read(ctx)
	return err == nil && s.ticket.proves(string(data))
}

// fail tells the client why there is no process: all of it in a message, and its beginning as the reason of the end. What
// the guest's policy refused is a violation of policy.
func (s *session) fail(ctx context.Context, err error) {
	code, text := websocket.StatusInternalError, event.Clean(err.Error())
	if d := guestv1.DenialFrom(err); d != nil {
		code, text = websocket.StatusPolicyViolation, event.Clean("refused by the guest: "+d.Error())
	}
	_ = s.conn.Write(ctx, websocket.MessageText, []byte("cofferdam: "+text+"\r\n")) // the close frame says it, too
	_ = s.conn.Close(code, cut(text, maxReason))                                    // the client may be gone
}

// unanswered ends a session whose supervisor did not answer. One that has ended meanwhile has left word of how its containers
// did; of other processes nobody knows any more.
func (s *session) unanswered(ctx context.Context, err error) {
	if s.ticket.exec == nil && guestv1.DenialFrom(err) == nil {
		_, r, errRecord := group.Load(s.ticket.dir)
		if errRecord == nil && r.State.Final() {
			if c, errName := r.Container(s.ticket.container); errName == nil {
				end := group.Ended{Reason: c.Reason, Broken: c.ExitCode == nil}
				if c.ExitCode != nil {
					end.ExitCode = *c.ExitCode
				}
				_ = s.conn.Close(websocket.StatusNormalClosure, cut(ending(end), maxReason)) // the client may be gone
				return
			}
		}
	}
	s.fail(ctx, err)
}

// cut shortens a text to at most n bytes.
func cut(text string, n int) string {
	if len(text) <= n {
		return text
	}
	text = text[:n]
	for !utf8.ValidString(text) {
		text = text[:len(text)-1]
	}
	return text
}

// converse passes everything between the client and the process.
func (s *session) converse(ctx context.Context, cancel context.CancelFunc, id string, streams *group.Streams, err error) {
	if err != nil {
		s.unanswered(ctx, err)
		return
	}
	defer func() { _ = streams.Close() }() // likewise
	s.conn.SetReadLimit(maxMessage)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() { s.feed(cancel, streams.Stdin) })
	all.Go(func() { s.watch(ctx, cancel) })
	output := make(chan struct{})
	var pumps sync.WaitGroup
	for _, c := range []net.Conn{streams.Stdout, streams.Stderr} {
		if c != nil {
			pumps.Go(func() { s.pump(cancel, c) })
		}
	}
	all.Go(func() {
		pumps.Wait()
		close(output)
	})
	all.Go(func() {
		<-ctx.Done()
		_ = streams.Close() // ends the pumps
	})
	end, err := s.client.Wait(ctx, s.ticket.container, id)
	switch {
	case ctx.Err() != nil:
		if id != "" {
			s.hangUp(id)
		}
		_ = s.conn.Close(websocket.StatusGoingAway, "the session ends") // the client may be gone
		return
	case err != nil:
		s.unanswered(ctx, err)
		return
	}
	select {
	case <-output:
	case <-time.After(lastOutput):
	case <-ctx.Done():
	}
	_ = s.conn.Close(websocket.StatusNormalClosure, cut(ending(end), maxReason)) // the client may be gone
}

// ending is how a process ended, for the close frame.
func ending(e group.Ended) string {
	switch {
	case e.Broken:
		return "the process was lost with its machine: " + e.Reason
	case e.Reason != "":
		return fmt.Sprintf("exit code %d: %s", e.ExitCode, e.Reason)
	}
	return fmt.Sprintf("exit code %d", e.ExitCode)
}

// feed passes the client's messages to the process. It reads on where nothing is passed: it is what notices the client's
// end. The connection's end ends it, and no context: a read that is called off takes the connection with it, without the
// closing handshake that says why.
func (s *session) feed(cancel context.CancelFunc, stdin net.Conn) {
	defer cancel()
	for {
		_, data, err := s.conn.Read(context.Background())
		if err != nil {
			return
		}
		if stdin == nil {
			continue
		}
		_, err = stdin.Write(data)
		if err != nil {
			stdin = nil // the process reads no more
		}
	}
}

// watch looks whether the client is still there.
func (s *session) watch(ctx context.Context, cancel context.CancelFunc) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		ping, done := context.WithTimeout(ctx, pingPatience)
		err := s.conn.Ping(ping)
		done()
		if err != nil {
			cancel()
			return
		}
	}
}

// pump passes output to the client. Text goes as text, and everything else as binary messages: clients that are written for
// terminals show no others.
func (s *session) pump(cancel context.CancelFunc, from net.Conn) {
	buf := make([]byte, 32<<10)
	kept := 0 // bytes of a character that is not complete yet
	for {
		n, err := from.Read(buf[kept:])
		data := buf[:kept+n]
		kept = 0
		if err == nil {
			kept = incomplete(data)
		}
		whole := data[:len(data)-kept]
		if len(whole) > 0 {
			kind := websocket.MessageBinary
			if utf8.Valid(whole) {
				kind = websocket.MessageText
			}
			if s.conn.Write(context.Background(), kind, whole) != nil { // ends with the connection, as reading does
				cancel()
				return
			}
		}
		if err != nil {
			return
		}
		copy(buf, data[len(whole):])
	}
}

// incomplete is the number of bytes at the end that begin a character and do not end it.
func incomplete(data []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(data); n++ {
		tail := data[len(data)-n:]
		if utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return n
			}
			return 0
		}
	}
	return 0
}

// hangUp ends a process whose client is gone.
func (s *session) hangUp(id string) {
	ctx, cancel := context.WithTimeout(context.Background(), hangUpPatience)
	defer cancel()
	err := s.client.Signal(ctx, s.ticket.container, id, uint32(syscall.SIGHUP))
	if err == nil {
		_, err = s.client.Wait(ctx, s.ticket.container, id)
	}
	if err == nil || errors.Is(err, group.ErrSupervisorGone) {
		return
	}
	ctx, cancel = context.WithTimeout(context.Background(), hangUpPatience)
	defer cancel()
	_ = s.client.Signal(ctx, s.ticket.container, id, uint32(syscall.SIGKILL)) // the policy may allow no signals
}
