// SPDX-License-Identifier: Apache-2.0

package blobtest

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
)

// Fault is how one request is answered wrongly. The zero value answers rightly.
type Fault struct {
	// Kind replaces the answer, one of the constants below.
	Kind Kind
	// Status and RetryAfter make the answer of kinds that have one.
	Status     int
	RetryAfter string
	// Data changes what is sent of an object.
	Data Data
}

// Kind is a way not to answer.
type Kind string

// The ways not to answer.
const (
	// Refuse answers with Status, and does nothing.
	Refuse Kind = "refuse"
	// Apply does what was asked, and answers with Status.
	Apply Kind = "apply"
	// Reset cuts the connection, and does nothing.
	Reset Kind = "reset"
	// ApplyReset does what was asked, and cuts the connection.
	ApplyReset Kind = "apply-reset"
	// Late cuts the connection, and does what was asked when Deliver is called.
	Late Kind = "late"
	// Hang answers nothing until the client goes away.
	Hang Kind = "hang"
)

// Data is a way to send the wrong thing.
type Data string

// The ways to send the wrong thing.
const (
	// Stale sends the content before the last change, as if it were the current one.
	Stale Data = "stale"
	// OtherVersion sends another ETag, and ignores the one asked for.
	OtherVersion Data = "other-version"
	// IgnoreRange sends everything.
	IgnoreRange Data = "ignore-range"
	// Truncated sends half of what it should, and ends the answer.
	Truncated Data = "truncated"
	// Cut sends half of what it should, and cuts the connection.
	Cut Data = "cut"
	// Longer sends a byte more.
	Longer Data = "longer"
	// Shifted sends bytes one further on, and says so.
	Shifted Data = "shifted"
	// OtherSize says that the object has another size.
	OtherSize Data = "other-size"
	// NoContentRange does not say which bytes it sends.
	NoContentRange Data = "no-content-range"
	// Encoded says that the content is compressed.
	Encoded Data = "encoded"
	// Slow sends a byte at a time.
	Slow Data = "slow"
)

// Misbehave sets what is asked for the fault of each request; nil ends faults. It is called by many goroutines at a time.
func (s *Server) Misbehave(f func(*http.Request) Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = f
}

// Deliver does what requests asked for whose connection was cut, with Late. It returns how many there were and the status
// of the last.
func (s *Server) Deliver() (count, status int) {
	s.mu.Lock()
	late := s.late
	s.late = nil
	s.mu.Unlock()
	for _, f := range late {
		f()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(late), s.lastLate
}

func (s *Server) misbehave(w http.ResponseWriter, r *http.Request, f Fault) {
	if f.RetryAfter != "" {
		w.Header().Set("Retry-After", f.RetryAfter)
	}
	switch f.Kind {
	case Refuse:
		_ = readAll(r)
		fail(w, f.Status, "ServerBusy")
	case Apply:
		s.behave(httptest.NewRecorder(), r, Fault{})
		fail(w, f.Status, "OperationTimedOut")
	case ApplyReset:
		s.behave(httptest.NewRecorder(), r, Fault{})
		panic(http.ErrAbortHandler)
	case Late:
		again := r.Clone(r.Context())
		again.Body = io.NopCloser(bytes.NewReader(readAll(r)))
		s.mu.Lock()
		s.late = append(s.late, func() {
			rec := httptest.NewRecorder()
			s.behave(rec, again, Fault{})
			s.mu.Lock()
			s.lastLate = rec.Code
			s.mu.Unlock()
		})
		s.mu.Unlock()
		panic(http.ErrAbortHandler)
	case Hang:
		_ = readAll(r)
		<-r.Context().Done()
	default:
		panic(http.ErrAbortHandler)
	}
}

// First makes a fault of the first n requests of some methods, and none of the others.
func First(n int, f Fault, methods ...string) func(*http.Request) Fault {
	left := make(chan struct{}, n)
	for range n {
		left <- struct{}{}
	}
	return func(r *http.Request) Fault {
		if !slices.Contains(methods, r.Method) || r.Header.Get("X-Ms-Lease-Action") != "" {
			return Fault{}
		}
		select {
		case <-left:
			return f
		default:
			return Fault{}
		}
	}
}

// Always makes a fault of all requests of some methods, but those about leases.
func Always(f Fault, methods ...string) func(*http.Request) Fault {
	return func(r *http.Request) Fault {
		if !slices.Contains(methods, r.Method) || r.Header.Get("X-Ms-Lease-Action") != "" {
			return Fault{}
		}
		return f
	}
}

func readAll(r *http.Request) []byte {
	b, _ := io.ReadAll(r.Body) // a client that went away wants no answer
	return b
}
