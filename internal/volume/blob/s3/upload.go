// SPDX-License-Identifier: Apache-2.0

package s3

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"cofferdam.dev/internal/volume/blob/wire"
)

const (
	// maxParts is how many parts an upload may have.
	maxParts = 10_000
	// partUnit is what the size of parts is a multiple of, in bytes. All but the last must have 5 MiB or more.
	partUnit = 8 << 20
	// sessionMark is the metadata of an object that names the upload it came from.
	sessionMark = "X-Amz-Meta-Cofferdamsession"
)

// Upload makes an object of parts, which nobody sees before Finish.
type Upload struct {
	o         *Object
	session   string
	id        string
	overwrite bool
}

// NewUpload begins an upload that we call by a session's name, or goes on with the one of the server's ID.
func NewUpload(ctx context.Context, at wire.Location, a Access, session, id string, overwrite bool) (*Upload, error) {
	o, err := a.dial(at)
	if err != nil {
		return nil, err
	}
	u := &Upload{o: o, session: session, id: id, overwrite: overwrite}
	if !overwrite {
		_, err = Open(ctx, at, a)
		switch {
		case err == nil || errors.Is(err, wire.ErrRefused):
			return nil, fmt.Errorf("uploading to %s: %w", at, wire.ErrExists)
		case !errors.Is(err, wire.ErrNotFound) && !errors.Is(err, wire.ErrDenied): // who may only write can not look
			return nil, err
		}
	}
	if id != "" {
		return u, nil
	}
	answer, err := o.doAgain(ctx, &wire.Request{
		Doing: "beginning", Method: http.MethodPost, Query: url.Values{"uploads": {""}},
		Header: http.Header{"Content-Type": {"application/octet-stream"}, sessionMark: {session}}, Want: []int{http.StatusOK},
	}, nil)
	if err != nil {
		return nil, err
	}
	var begun struct {
		UploadID string `xml:"UploadId"`
	}
	if xml.Unmarshal(answer.Body, &begun) != nil || begun.UploadID == "" {
		return nil, fmt.Errorf("uploading to %s: the server named no upload", at)
	}
	u.id = begun.UploadID
	return u, nil
}

// ID names the upload, to go on with it.
func (u *Upload) ID() string { return u.id }

// Piece is how many bytes Put takes, for an object of a size.
func (*Upload) Piece(size int64) int64 {
	return max(1, (size+maxParts*partUnit-1)/(maxParts*partUnit)) * partUnit
}

// Put stores a part, and returns what Finish needs to name it.
func (u *Upload) Put(ctx context.Context, index int, p []byte) (string, error) {
	answer, err := u.o.doAgain(ctx, &wire.Request{
		Doing: fmt.Sprintf("writing part %d", index+1), Method: http.MethodPut,
		Query: url.Values{"partNumber": {strconv.Itoa(index + 1)}, "uploadId": {u.id}}, Body: p, Want: []int{http.StatusOK},
	}, nil)
	if err != nil {
		return "", err
	}
	tag := answer.Header.Get("ETag")
	if tag == "" {
		return "", fmt.Errorf("writing part %d of %s: the server gave it no ETag", index+1, u.o.at)
	}
	return tag, nil
}

type part struct {
	PartNumber int
	ETag       string
}

// Finish makes the object of the parts.
func (u *Upload) Finish(ctx context.Context, tags []string) error {
	list := struct {
		XMLName xml.Name `xml:"CompleteMultipartUpload"`
		Part    []part
	}{}
	for i, tag := range tags {
		list.Part = append(list.Part, part{PartNumber: i + 1, ETag: tag})
	}
	body, err := xml.Marshal(list)
	if err != nil {
		return fmt.Errorf("writing the list of parts: %w", err)
	}
	h := http.Header{"Content-Type": {"application/xml"}}
	if !u.overwrite {
		h.Set("If-None-Match", "*")
	}
	request := &wire.Request{
		Doing: "completion", Method: http.MethodPost, Query: url.Values{"uploadId": {u.id}}, Header: h, Body: body, Want: []int{http.StatusOK},
	}
	_, err = u.o.doAgain(ctx, request, completed)
	if refusal, ok := errors.AsType[*wire.Error](err); ok && refusal.Status == http.StatusNotImplemented && !u.overwrite {
		// The server has no such condition. That there was no object when we began has to do.
		h.Del("If-None-Match")
		_, err = u.o.doAgain(ctx, request, completed)
	}
	if err != nil {
		return u.unlessOurs(ctx, err)
	}
	return nil
}

// completed checks the answer to a completion: the server may begin it before it knows how the upload ends, so its status is
// not enough.
func completed(a *wire.Answer) error {
	var done struct {
		XMLName xml.Name
	}
	if xml.Unmarshal(a.Body, &done) == nil && done.XMLName.Local == "CompleteMultipartUploadResult" {
		return nil
	}
	reason := wire.PlainCode(code(nil, a.Body))
	return &wire.Error{
		Doing: "completion", Where: "the upload", Status: a.Status, Code: reason, Temporary: reason == "" || reason == "InternalError" || reason == "SlowDown",
		Err: errors.New("the server did not complete it"),
	}
}

// doAgain makes a request until there is an answer for good, which also passes a check if there is one.
func (o *Object) doAgain(ctx context.Context, r *wire.Request, check func(*wire.Answer) error) (answer *wire.Answer, err error) {
	r.Location = o.at
	err = o.retry.Do(ctx, func(ctx context.Context) error {
		answer, err = o.client.Do(ctx, r)
		if err == nil && check != nil {
			err = check(answer)
		}
		return err
	})
	return answer, err
}

// unlessOurs returns the error of a completion, unless an earlier attempt has completed the upload without our learning of it.
func (u *Upload) unlessOurs(ctx context.Context, err error) error {
	refusal, ok := errors.AsType[*wire.Error](err)
	if !ok || refusal.Status != http.StatusPreconditionFailed && refusal.Status != http.StatusNotFound {
		return err
	}
	if refusal.Status == http.StatusPreconditionFailed {
		refusal.Err = wire.ErrExists
	}
	h, _, probeErr := u.o.client.Probe(ctx, wire.Range{Location: u.o.at, Field: rangeField})
	if probeErr == nil && h.Get(sessionMark) == u.session {
		return nil
	}
	return err
}

// Close does nothing. An upload without an end stays at the server until its owner's rules remove it.
func (u *Upload) Close() error { return nil }
