// SPDX-License-Identifier: Apache-2.0

// Package blobtest is a storage server in memory that can be told to misbehave. It speaks as much as volumes need of HTTP with
// ranges, of Azure Blob Storage (page and block blobs, leases, sequence numbers) and of S3 (ranges, uploads in parts). It
// checks no credentials: what is right in those is compared with independent programs elsewhere.
//
// It trusts its callers and is for tests alone.
package blobtest

import (
	"crypto/rand"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Server holds objects by their path. /http/… is spoken to as plain HTTP, /account/… as Azure, and the rest as S3.
type Server struct {
	*httptest.Server

	mu       sync.Mutex
	objects  map[string]*Object
	uploads  map[string]map[int][]byte
	fault    func(*http.Request) Fault
	late     []func()
	lastLate int
	requests []string
}

// Object is what the server holds.
type Object struct {
	// Kind is PageBlob, BlockBlob, or empty.
	Kind string
	// Data is the content; Before is what it was before the last change.
	Data, Before []byte
	// Meta are headers that are stored with it.
	Meta http.Header
	// Sequence is a page blob's sequence number.
	Sequence int64
	// Weak has the server name no ETag, only when it was changed.
	Weak bool

	tag    int
	blocks map[string][]byte

	leaseID    string
	leaseUntil time.Time
}

// New starts a server. Close ends it.
func New() *Server {
	s := &Server{objects: map[string]*Object{}, uploads: map[string]map[int][]byte{}}
	s.Server = httptest.NewServer(http.HandlerFunc(s.serve))
	return s
}

// Put places an object at a path, as somebody does who needs no lease.
func (s *Server) Put(path, kind string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := s.objects[path]
	if o == nil {
		o = &Object{}
		s.objects[path] = o
	}
	o.Kind, o.Before, o.Data = kind, o.Data, slices.Clone(data)
	o.tag++
}

// Change calls f with the object at a path; its ETag stays.
func (s *Server) Change(path string, f func(*Object)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.objects[path])
}

// Content returns what the object at a path holds, nil if there is none.
func (s *Server) Content(path string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[path]; o != nil {
		return slices.Clone(o.Data)
	}
	return nil
}

// EndLease has the lease of an object end as if its time were over.
func (s *Server) EndLease(path string) {
	s.Change(path, func(o *Object) { o.leaseUntil = time.Now().Add(-time.Hour) })
}

// StealLease gives the lease of an object to somebody else, as its owner can.
func (s *Server) StealLease(path string) {
	s.Change(path, func(o *Object) {
		o.leaseID, o.leaseUntil = rand.Text(), time.Now().Add(time.Hour)
		o.tag++
	})
}

// Requests returns what was asked so far: method, path and the names of operations.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.requests)
}

// serve answers a request, as well as the fault lets it.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+r.URL.Query().Get("comp")+r.Header.Get("X-Ms-Lease-Action")))
	fault := s.fault
	s.mu.Unlock()
	var f Fault
	if fault != nil {
		f = fault(r)
	}
	if f.Kind != "" {
		s.misbehave(w, r, f)
		return
	}
	if f.Data == Slow {
		s.drip(w, r)
		return
	}
	s.behave(w, r, f)
}

// drip answers rightly, a byte at a time.
func (s *Server) drip(w http.ResponseWriter, r *http.Request) {
	rec := httptest.NewRecorder()
	s.behave(rec, r, Fault{})
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	for _, b := range rec.Body.Bytes() {
		if _, err := w.Write([]byte{b}); err != nil {
			return
		}
		flush(w)
		time.Sleep(50 * time.Millisecond)
	}
}

// behave answers as the protocol says.
func (s *Server) behave(w http.ResponseWriter, r *http.Request, f Fault) {
	body := readAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case strings.HasPrefix(r.URL.Path, "/account/"):
		s.azure(w, r, body, f)
	case strings.HasPrefix(r.URL.Path, "/http/"):
		s.get(w, r, f)
	default:
		s.s3(w, r, body, f)
	}
}

// get answers a request for a range.
func (s *Server) get(w http.ResponseWriter, r *http.Request, f Fault) {
	o := s.objects[r.URL.Path]
	if o == nil {
		fail(w, http.StatusNotFound, "BlobNotFound")
		return
	}
	h := w.Header()
	maps.Copy(h, o.Meta)
	modified := time.Unix(1_700_000_000+int64(o.tag), 0).UTC().Format(http.TimeFormat)
	h.Set("Last-Modified", modified)
	if !o.Weak {
		h.Set("ETag", o.etag(f))
	}
	if want := r.Header.Get("If-Match"); want != "" && want != o.etag(Fault{}) && f.Data != OtherVersion {
		fail(w, http.StatusPreconditionFailed, "ConditionNotMet")
		return
	}
	if want := r.Header.Get("If-Unmodified-Since"); want != "" && want != modified {
		fail(w, http.StatusPreconditionFailed, "ConditionNotMet")
		return
	}
	data := o.Data
	if f.Data == Stale {
		data = o.Before
	}
	asked := r.Header.Get("X-Ms-Range")
	if asked == "" {
		asked = r.Header.Get("Range")
	}
	first, last, ok := span(asked, int64(len(data)))
	switch {
	case asked == "" || f.Data == IgnoreRange:
		_, _ = w.Write(data)
	case !ok:
		fail(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
	default:
		s.part(w, data, first, last, f)
	}
}

// part sends a part of some data.
func (s *Server) part(w http.ResponseWriter, data []byte, first, last int64, f Fault) {
	part, total := data[first:last+1], int64(len(data))
	switch f.Data {
	case Shifted:
		first, last = first+1, last+1
		part = data[first : last+1]
	case OtherSize:
		total++
	case Longer:
		part = append(slices.Clone(part), 'x')
	case Encoded:
		w.Header().Set("Content-Encoding", "gzip")
	}
	if f.Data == NoContentRange {
		w.WriteHeader(http.StatusPartialContent)
	} else {
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, total))
		w.WriteHeader(http.StatusPartialContent)
	}
	switch f.Data {
	case Truncated:
		_, _ = w.Write(part[:len(part)/2])
	case Cut:
		_, _ = w.Write(part[:len(part)/2])
		flush(w)
		panic(http.ErrAbortHandler)
	default:
		_, _ = w.Write(part)
	}
}

func (o *Object) etag(f Fault) string {
	if f.Data == OtherVersion {
		return `"other"`
	}
	return `"` + strconv.Itoa(o.tag) + `"`
}

// span reads "bytes=first-last".
func span(text string, size int64) (first, last int64, ok bool) {
	a, b, ok := strings.Cut(strings.TrimPrefix(text, "bytes="), "-")
	first, errA := strconv.ParseInt(a, 10, 64)
	last, errB := strconv.ParseInt(b, 10, 64)
	if !ok || errA != nil || errB != nil || first > last || first >= size {
		return 0, 0, false
	}
	return first, min(last, size-1), true
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("X-Ms-Error-Code", code)
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "<Error><Code>%s</Code><Message>secret details</Message></Error>", code)
}

func flush(w http.ResponseWriter) { _ = http.NewResponseController(w).Flush() }
