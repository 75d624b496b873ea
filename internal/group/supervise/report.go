// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"encoding/json"
	"io"
	"net"
	"sync"
	"time"

	guestv1 "cofferdam.dev/api/guest/v1"
	"cofferdam.dev/internal/group"

	"google.golang.org/protobuf/encoding/protojson"
)

// report tells the starter how the start goes. Whoever started us may be gone; then nobody is told.
type report struct {
	conn net.Conn
	gone chan struct{} // closed when the starter has gone, or has called the start off
	once sync.Once
	mu   sync.Mutex // held while an event is written
}

func newReport(conn net.Conn) *report {
	r := &report{conn: conn, gone: make(chan struct{})}
	go func() {
		_, _ = io.Copy(io.Discard, conn)
		close(r.gone)
	}()
	return r
}

func (r *report) send(e group.Event) {
	line, err := json.Marshal(e)
	if err != nil {
		return // an event is strings and a time
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.conn.SetWriteDeadline(time.Now().Add(time.Minute)) // a starter that hangs must not hang us
	_, _ = r.conn.Write(append(line, '\n'))
}

func (r *report) stage(name string, now time.Time) { r.send(group.Event{Stage: name, Time: now}) }

func (r *report) warning(text string) { r.send(group.Event{Warning: text, Time: time.Now()}) }

// failed is the last event of a start that failed, told when nothing of it is left.
func (r *report) failed(err error) {
	e := group.Event{Time: time.Now(), Error: err.Error()}
	d := guestv1.DenialFrom(err)
	if d != nil {
		e.Denial, err = protojson.Marshal(d)
		if err != nil {
			e.Denial = nil // the message says it too
		}
	}
	r.send(e)
}

// close ends the report. It returns when the reader has ended.
func (r *report) close() {
	r.once.Do(func() {
		_ = r.conn.Close() // nothing is owed to the starter
		<-r.gone
	})
}
