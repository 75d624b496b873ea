// SPDX-License-Identifier: Apache-2.0

package evidencewire

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/strictjson"
)

// Codes of errors.
const (
	// CodeBadRequest says that the request is none.
	CodeBadRequest = "bad-request"
	// CodeBusy says that the container's earlier requests take too long.
	CodeBusy = "busy"
	// CodeFailed says that no report could be got.
	CodeFailed = "failed"
)

// Error is the answer to a request that gets nothing else.
type Error struct {
	// Code is one of the codes above; others may be added.
	Code string
	// Message is a text for people.
	Message string
}

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Report is the answer to a request with report data.
type Report struct {
	// Type says what Report is, as in a document.
	Type string
	// Report is the report in its own format.
	Report []byte
	// Certificates is an SNP certificate table, exactly as the platform delivered it, or empty.
	Certificates []byte
}

// MarshalDocument returns an evidence document as a line.
func MarshalDocument(d *evidence.Document) ([]byte, error) {
	b, err := d.Marshal()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if err = json.Compact(&out, b); err != nil {
		return nil, fmt.Errorf("writing evidence as a line: %w", err)
	}
	out.WriteByte('\n')
	return within(out.Bytes())
}

// Marshal returns the report as a line.
func (r *Report) Marshal() ([]byte, error) {
	b, err := line(struct {
		Type         string `json:"type"`
		Report       []byte `json:"report"`
		Certificates []byte `json:"certificates,omitempty"`
	}{r.Type, r.Report, r.Certificates})
	if err != nil {
		return nil, err
	}
	return within(b)
}

func within(b []byte) ([]byte, error) {
	if len(b) > MaxAnswer {
		return nil, fmt.Errorf("answer has %d bytes, more than %d", len(b), MaxAnswer)
	}
	return b, nil
}

// Marshal returns the error as a line, its message cut to what fits.
func (e *Error) Marshal() []byte {
	var w struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"error"`
	}
	w.Error.Code, w.Error.Message = e.Code, e.Message[:min(len(e.Message), maxMessage)]
	b, err := line(w)
	if err != nil {
		return []byte(`{"error":{"code":"failed","message":"the error can not be encoded"}}` + "\n") // strings always can
	}
	return b
}

// ParseDocument decodes the answer to a request for a document. An answer that is an error is returned as *Error.
func ParseDocument(b []byte) (*evidence.Document, error) {
	if _, err := parse(b); err != nil {
		return nil, err
	}
	return evidence.ParseDocument(b)
}

// ParseReport decodes the answer to a request with report data. An answer that is an error is returned as *Error.
func ParseReport(b []byte) (*Report, error) {
	o, err := parse(b)
	if err != nil {
		return nil, err
	}
	if err = o.Only("type", "report", "certificates"); err != nil {
		return nil, err
	}
	r := &Report{}
	if r.Type, err = o.Text("type"); err != nil {
		return nil, err
	}
	if r.Report, err = bytesOf(o, "report"); err != nil {
		return nil, err
	}
	if o.Has("certificates") {
		if r.Certificates, err = bytesOf(o, "certificates"); err != nil {
			return nil, err
		}
	}
	if n := len(r.Report); n == 0 || n > evidence.MaxReportSize {
		return nil, fmt.Errorf("report has %d bytes, not 1 to %d", n, evidence.MaxReportSize)
	}
	return r, nil
}

// parse reads an answer's object, and turns one that is an error into it.
func parse(b []byte) (strictjson.Object, error) {
	if len(b) > MaxAnswer {
		return nil, fmt.Errorf("answer has %d bytes, more than %d", len(b), MaxAnswer)
	}
	o, err := strictjson.Parse(b)
	if err != nil {
		return nil, err
	}
	if !o.Has("error") {
		return o, nil
	}
	inner, err := o.Object("error")
	if err = errors.Join(err, o.Only("error")); err != nil {
		return nil, err
	}
	e := &Error{}
	var wrong [2]error
	e.Code, wrong[0] = inner.Text("code")
	e.Message, wrong[1] = inner.Text("message")
	if err = errors.Join(wrong[:]...); err != nil {
		return nil, err
	}
	return nil, e
}
