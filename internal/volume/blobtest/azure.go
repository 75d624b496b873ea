// SPDX-License-Identifier: Apache-2.0

package blobtest

import (
	"encoding/xml"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// azure answers a request for a blob.
func (s *Server) azure(w http.ResponseWriter, r *http.Request, body []byte, f Fault) {
	o, comp := s.objects[r.URL.Path], r.URL.Query().Get("comp")
	if o == nil && r.Method == http.MethodPut && (comp == "" || comp == "block") {
		o = &Object{}
	}
	if o == nil || o.Kind == "" && r.Method == http.MethodGet { // blocks alone are no blob
		fail(w, http.StatusNotFound, "BlobNotFound")
		return
	}
	if r.Method == http.MethodPut && comp == "lease" {
		o.lease(w, r)
		return
	}
	if code := o.admits(r, comp); code != "" {
		fail(w, http.StatusPreconditionFailed, code)
		return
	}
	if r.Method == http.MethodGet {
		w.Header().Set("X-Ms-Blob-Type", o.Kind)
		w.Header().Set("X-Ms-Blob-Sequence-Number", strconv.FormatInt(o.Sequence, 10))
		s.get(w, r, f)
		return
	}
	switch comp {
	case "":
		s.createBlob(w, r, body)
	case "page":
		o.putPage(w, r, body)
	case "properties":
		asked, _ := strconv.ParseInt(r.Header.Get("X-Ms-Blob-Sequence-Number"), 10, 64)
		o.Sequence = max(o.Sequence, asked)
		w.Header().Set("X-Ms-Blob-Sequence-Number", strconv.FormatInt(o.Sequence, 10))
	case "metadata":
		o.Meta = meta(r)
		o.tag++
	case "block":
		if s.objects[r.URL.Path] == nil {
			s.objects[r.URL.Path] = o
		}
		if o.blocks == nil {
			o.blocks = map[string][]byte{}
		}
		o.blocks[r.URL.Query().Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
	case "blocklist":
		o.commit(w, r, body)
	default:
		fail(w, http.StatusBadRequest, "InvalidQueryParameterValue")
	}
}

// admits says why a request is refused for the blob's lease or its existence.
func (o *Object) admits(r *http.Request, comp string) string {
	held := o.leaseID != "" && time.Now().Before(o.leaseUntil)
	id := r.Header.Get("X-Ms-Lease-Id")
	switch {
	case id != "" && !held:
		return "LeaseNotPresentWithBlobOperation"
	case id != "" && id != o.leaseID:
		return "LeaseIdMismatchWithBlobOperation"
	case id == "" && held && r.Method != http.MethodGet && comp != "block":
		return "LeaseIdMissing"
	case r.Header.Get("If-None-Match") == "*" && o.Kind != "":
		return "BlobAlreadyExists"
	}
	return ""
}

func (o *Object) lease(w http.ResponseWriter, r *http.Request) {
	seconds, _ := strconv.Atoi(r.Header.Get("X-Ms-Lease-Duration"))
	held := o.leaseID != "" && time.Now().Before(o.leaseUntil)
	id := r.Header.Get("X-Ms-Lease-Id")
	switch r.Header.Get("X-Ms-Lease-Action") {
	case "acquire":
		proposed := r.Header.Get("X-Ms-Proposed-Lease-Id")
		if held && o.leaseID != proposed {
			fail(w, http.StatusConflict, "LeaseAlreadyPresent")
			return
		}
		o.leaseID, o.leaseUntil = proposed, time.Now().Add(time.Duration(seconds)*time.Second)
		w.WriteHeader(http.StatusCreated)
	case "renew":
		if id != o.leaseID {
			fail(w, http.StatusConflict, "LeaseIdMismatchWithLeaseOperation")
			return
		}
		o.leaseUntil = time.Now().Add(time.Minute)
	case "release":
		if id != o.leaseID {
			fail(w, http.StatusConflict, "LeaseIdMismatchWithLeaseOperation")
			return
		}
		o.leaseID = ""
	}
}

func (s *Server) createBlob(w http.ResponseWriter, r *http.Request, body []byte) {
	o := &Object{Kind: r.Header.Get("X-Ms-Blob-Type"), Data: body, Meta: meta(r)}
	if o.Kind == "PageBlob" {
		size, _ := strconv.Atoi(r.Header.Get("X-Ms-Blob-Content-Length"))
		o.Data = make([]byte, size)
	}
	if old := s.objects[r.URL.Path]; old != nil {
		o.tag = old.tag
	}
	o.tag++
	s.objects[r.URL.Path] = o
	w.WriteHeader(http.StatusCreated)
}

func (o *Object) putPage(w http.ResponseWriter, r *http.Request, body []byte) {
	first, last, ok := span(r.Header.Get("X-Ms-Range"), int64(len(o.Data)))
	if !ok || first%512 != 0 || (last+1)%512 != 0 || last-first+1 != int64(len(body)) {
		fail(w, http.StatusBadRequest, "InvalidPageRange")
		return
	}
	if want := r.Header.Get("X-Ms-If-Sequence-Number-Eq"); want != "" && want != strconv.FormatInt(o.Sequence, 10) {
		fail(w, http.StatusPreconditionFailed, "SequenceNumberConditionNotMet")
		return
	}
	if len(o.Before) != len(o.Data) {
		o.Before = slices.Clone(o.Data)
	}
	copy(o.Before[first:], o.Data[first:last+1]) // of what is written now; the rest is older still
	copy(o.Data[first:], body)
	o.tag++
	w.WriteHeader(http.StatusCreated)
}

func (o *Object) commit(w http.ResponseWriter, r *http.Request, body []byte) {
	var list struct{ Latest []string }
	if xml.Unmarshal(body, &list) != nil {
		fail(w, http.StatusBadRequest, "InvalidXmlDocument")
		return
	}
	var data []byte
	for _, id := range list.Latest {
		b, ok := o.blocks[id]
		if !ok {
			fail(w, http.StatusBadRequest, "InvalidBlockList")
			return
		}
		data = append(data, b...)
	}
	o.Kind, o.Data, o.Meta = "BlockBlob", data, meta(r)
	o.tag++
	w.WriteHeader(http.StatusCreated)
}

func meta(r *http.Request) http.Header {
	h := http.Header{}
	for name, values := range r.Header {
		if strings.HasPrefix(name, "X-Ms-Meta-") || strings.HasPrefix(name, "X-Amz-Meta-") {
			h[name] = values
		}
	}
	return h
}
