// SPDX-License-Identifier: Apache-2.0

package blobtest

import (
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"net/http"
	"strconv"
)

// s3 answers a request for an object of a bucket.
func (s *Server) s3(w http.ResponseWriter, r *http.Request, body []byte, f Fault) {
	q := r.URL.Query()
	id := q.Get("uploadId")
	switch {
	case r.Method == http.MethodGet:
		s.get(w, r, f)
	case r.Method == http.MethodPost && q.Has("uploads"):
		id = rand.Text()
		s.uploads[id] = map[int][]byte{}
		s.objects["upload/"+id] = &Object{Meta: meta(r)}
		_, _ = fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case s.uploads[id] == nil:
		fail(w, http.StatusNotFound, "NoSuchUpload")
	case r.Method == http.MethodPut:
		n, _ := strconv.Atoi(q.Get("partNumber"))
		s.uploads[id][n] = body
		w.Header().Set("ETag", fmt.Sprintf(`"part-%d-%d"`, n, len(body)))
	case r.Method == http.MethodPost:
		s.complete(w, r, id, body)
	}
}

func (s *Server) complete(w http.ResponseWriter, r *http.Request, id string, body []byte) {
	if r.Header.Get("If-None-Match") == "*" && s.objects[r.URL.Path] != nil {
		fail(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	}
	var list struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if xml.Unmarshal(body, &list) != nil {
		fail(w, http.StatusBadRequest, "MalformedXML")
		return
	}
	var data []byte
	for i, p := range list.Part {
		part := s.uploads[id][p.PartNumber]
		if p.PartNumber != i+1 || p.ETag != fmt.Sprintf(`"part-%d-%d"`, p.PartNumber, len(part)) {
			_, _ = fmt.Fprint(w, "<Error><Code>InvalidPart</Code></Error>") // with 200, as the service may
			return
		}
		data = append(data, part...)
	}
	s.objects[r.URL.Path] = &Object{Data: data, Meta: s.objects["upload/"+id].Meta, tag: 1}
	delete(s.uploads, id)
	_, _ = fmt.Fprint(w, "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
}
