// SPDX-License-Identifier: Apache-2.0

// Package qmp speaks as much of QEMU's machine protocol as a sandbox needs: the greeting, a few commands, and events.
//
// It is strict and bounded: one JSON object a line, a limit on its length, at most one command under way. It trusts
// QEMU for nothing but to say why a machine stopped; a guest that broke into QEMU could lie about that, and only its
// own group would be misled.
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// maxLine bounds one message. QEMU's greeting and the events that we know have a few hundred bytes.
const maxLine = 64 << 10

// maxEvents is how many events are kept while nobody reads them; the oldest are the telling ones, so later ones are
// dropped.
const maxEvents = 64

// ErrClosed says that the connection to QEMU has ended.
var ErrClosed = errors.New("the monitor connection has ended")

// Event is something that happened to the machine.
type Event struct {
	Name string
	// Reason is the reason of a SHUTDOWN event, such as "guest-shutdown"; Action that of GUEST_PANICKED.
	Reason, Action string
	// NoSpace is true for a BLOCK_IO_ERROR that the host's full disk is the reason of.
	NoSpace bool
}

// Error is QEMU's refusal of a command.
type Error struct{ Class, Description string }

// Error returns QEMU's description.
func (e *Error) Error() string { return e.Class + ": " + e.Description }

// message is anything that QEMU sends.
type message struct {
	QMP    *json.RawMessage `json:"QMP"`
	Event  string           `json:"event"`
	Data   json.RawMessage  `json:"data"`
	Return *json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
}

// parse reads one line. A message is a greeting, an event, a return or an error, and only one of them.
func parse(line []byte) (*message, error) {
	var m message
	err := json.Unmarshal(line, &m)
	if err != nil {
		return nil, fmt.Errorf("reading a monitor message: %w", err)
	}
	kinds := 0
	for _, is := range []bool{m.QMP != nil, m.Event != "", m.Return != nil, m.Error != nil} {
		if is {
			kinds++
		}
	}
	if kinds != 1 {
		return nil, fmt.Errorf("monitor message of %d bytes is of %d kinds, want 1", len(line), kinds)
	}
	return &m, nil
}

func (m *message) event() Event {
	e := Event{Name: m.Event}
	var data struct {
		Reason string `json:"reason"`
		Action string `json:"action"`
		// Older versions leave it out where they do not keep the state of a device; then only the reason tells.
		NoSpace bool `json:"nospace"`
	}
	if json.Unmarshal(m.Data, &data) == nil { // events without data, or with other data, have neither
		e.Reason, e.Action = data.Reason, data.Action
		e.NoSpace = e.Name == "BLOCK_IO_ERROR" && (data.NoSpace || strings.EqualFold(data.Reason, unix.ENOSPC.Error()))
	}
	return e
}

// Client is a connection to a machine's monitor.
type Client struct {
	conn    io.ReadWriteCloser
	events  chan Event
	replies chan *message
	done    chan struct{}

	calls sync.Mutex // one command at a time
	mu    sync.Mutex
	err   error
}

// New greets QEMU over conn, which it owns from then on, also when it fails.
func New(ctx context.Context, conn io.ReadWriteCloser) (*Client, error) {
	c := &Client{
		conn:    conn,
		events:  make(chan Event, maxEvents),
		replies: make(chan *message, 1),
		done:    make(chan struct{}),
	}
	greeted := make(chan struct{})
	go c.read(greeted)
	select {
	case <-greeted:
	case <-c.done:
		_ = conn.Close() // the reader's error is the telling one
		return nil, fmt.Errorf("greeting QEMU: %w", c.Err())
	case <-ctx.Done():
		_ = c.Close()
		return nil, fmt.Errorf("greeting QEMU: %w", ctx.Err())
	}
	err := c.Execute(ctx, "qmp_capabilities", nil)
	if err != nil {
		_ = c.Close() // the first error is the telling one
		return nil, fmt.Errorf("greeting QEMU: %w", err)
	}
	return c, nil
}

// read takes messages until the connection ends.
func (c *Client) read(greeted chan<- struct{}) {
	defer close(c.done)
	defer close(c.events)
	s := bufio.NewScanner(c.conn)
	s.Buffer(make([]byte, 0, 4096), maxLine)
	waiting := true
	for s.Scan() {
		m, err := parse(s.Bytes())
		if err != nil {
			c.fail(err)
			return
		}
		switch {
		case m.QMP != nil && waiting:
			waiting = false
			close(greeted)
		case m.QMP != nil || waiting:
			c.fail(errors.New("the monitor's greeting is missing, or comes twice"))
			return
		case m.Event != "":
			select {
			case c.events <- m.event():
			default:
			}
		default:
			select {
			case c.replies <- m:
			default:
				c.fail(errors.New("the monitor answers what was not asked"))
				return
			}
		}
	}
	err := s.Err()
	if err == nil {
		err = ErrClosed
	}
	c.fail(err)
}

func (c *Client) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err == nil {
		c.err = err
	}
}

// Err is why the connection ended, nil while it lasts.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Events delivers what happens to the machine, and is closed when the connection ends.
func (c *Client) Events() <-chan Event { return c.events }

// Execute runs one command. result may be nil. A refusal is an *Error. When ctx ends before QEMU has answered, the
// connection is closed: an answer that comes late could be taken for the next one's.
func (c *Client) Execute(ctx context.Context, command string, result any) error {
	c.calls.Lock()
	defer c.calls.Unlock()
	line, err := json.Marshal(map[string]string{"execute": command})
	if err != nil {
		return fmt.Errorf("monitor command %s: %w", command, err)
	}
	_, err = c.conn.Write(append(line, '\n'))
	if err != nil {
		_ = c.conn.Close() // ends the reader, which knows more
		<-c.done
		return fmt.Errorf("monitor command %s: %w", command, c.Err())
	}
	select {
	case m := <-c.replies:
		return m.result(command, result)
	case <-c.done:
		select {
		case m := <-c.replies: // its last words
			return m.result(command, result)
		default:
		}
		return fmt.Errorf("monitor command %s: %w", command, c.Err())
	case <-ctx.Done():
		_ = c.conn.Close()
		return fmt.Errorf("monitor command %s: %w", command, ctx.Err())
	}
}

func (m *message) result(command string, result any) error {
	if m.Error != nil {
		return fmt.Errorf("monitor command %s: %w", command, &Error{Class: m.Error.Class, Description: m.Error.Desc})
	}
	if result == nil {
		return nil
	}
	err := json.Unmarshal(*m.Return, result)
	if err != nil {
		return fmt.Errorf("monitor command %s: reading the answer: %w", command, err)
	}
	return nil
}

// Status is the machine's run state, such as "running".
func (c *Client) Status(ctx context.Context) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	err := c.Execute(ctx, "query-status", &s)
	return s.Status, err
}

// Quit ends QEMU.
func (c *Client) Quit(ctx context.Context) error { return c.Execute(ctx, "quit", nil) }

// Close ends the connection and waits for the reader.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	if err != nil {
		return fmt.Errorf("closing the monitor connection: %w", err)
	}
	return nil
}
