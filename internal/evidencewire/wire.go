// SPDX-License-Identifier: Apache-2.0

// Package evidencewire is the protocol of the socket on which the containers of a group get evidence from the guest's
// agent: one line of JSON each way, and where the socket lies in a container.
//
// Both ends parse what comes from the other as hostile: one object, exact keys, each once, every field bounded. The
// package decides nothing about evidence, and opens nothing.
package evidencewire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/strictjson"
)

// Where containers have the socket. The directory is the guest's own: nothing that a host asks for is mounted there.
const (
	// Directory is the directory that the agent mounts, read-only, into every container.
	Directory = "/run/cofferdam"
	// SocketName is the socket in the directory.
	SocketName = "evidence.sock"
	// PolicyName is the file in the directory that holds the text of the policy in force.
	PolicyName = "policy.rego"
	// PolicyBase64Name is the file with the same text in base64, as Azure's container groups have it.
	PolicyBase64Name = "security-policy-base64"
	// ContextPrefix begins the name of ContextDirectory.
	ContextPrefix = "/security-context-"
	// ContextVariable is the variable that names ContextDirectory there, and here.
	ContextVariable = "UVM_SECURITY_CONTEXT_DIR"
)

// contextName is how many digits of the container's ID the name of its ContextDirectory has.
const contextName = 12

// ContextDirectory is where a container has the same directory a second time, under the kind of name that programs written for
// Azure's container groups look for.
func ContextDirectory(containerID string) string {
	return ContextPrefix + containerID[:min(len(containerID), contextName)]
}

// Limits.
const (
	// MaxRuntimeData bounds the runtime data of a request, in bytes.
	MaxRuntimeData = 16 << 10
	// MaxRequest bounds the line of a request, its end included, in bytes.
	MaxRequest = 24 << 10
	// MaxAnswer bounds the line of an answer, its end included, in bytes.
	MaxAnswer = 512 << 10
	// maxMessage bounds the text of an error, in bytes.
	maxMessage = 1024
)

// Request asks for evidence. It has either a nonce, with runtime data or without, or report data.
type Request struct {
	// Nonce and RuntimeData are what a document's report commits to, as a workload's.
	Nonce, RuntimeData []byte
	// ReportData are 64 bytes that the report carries as they are, for protocols that fix them; nil where a document is
	// wanted.
	ReportData *[64]byte
}

// Validate returns an error unless the request has exactly one of its forms and every field is within its limits.
func (r *Request) Validate() error {
	if r.ReportData != nil {
		if len(r.Nonce) > 0 || len(r.RuntimeData) > 0 {
			return errors.New("request has report data and something to compute them of; want one of the two")
		}
		return nil
	}
	if n := len(r.Nonce); n < evidence.MinNonceSize || n > evidence.MaxNonceSize {
		return fmt.Errorf("nonce has %d bytes, not %d to %d", n, evidence.MinNonceSize, evidence.MaxNonceSize)
	}
	if n := len(r.RuntimeData); n > MaxRuntimeData {
		return fmt.Errorf("runtimeData has %d bytes, more than %d", n, MaxRuntimeData)
	}
	return nil
}

// Marshal returns the request as a line.
func (r *Request) Marshal() ([]byte, error) {
	if err := r.Validate(); err != nil {
		return nil, err
	}
	var w struct {
		Nonce       []byte `json:"nonce,omitempty"`
		RuntimeData []byte `json:"runtimeData,omitempty"`
		ReportData  []byte `json:"reportData,omitempty"`
	}
	w.Nonce, w.RuntimeData = r.Nonce, r.RuntimeData
	if r.ReportData != nil {
		w.ReportData = r.ReportData[:]
	}
	return line(w)
}

// ParseRequest decodes a request, with or without the end of its line.
func ParseRequest(b []byte) (*Request, error) {
	if len(b) > MaxRequest {
		return nil, fmt.Errorf("request has %d bytes, more than %d", len(b), MaxRequest)
	}
	o, err := strictjson.Parse(b)
	if err != nil {
		return nil, err
	}
	if err = o.Only("nonce", "runtimeData", "reportData"); err != nil {
		return nil, err
	}
	r := &Request{}
	if o.Has("reportData") {
		data, err := bytesOf(o, "reportData")
		if err != nil {
			return nil, err
		}
		if len(data) != len(r.ReportData) {
			return nil, fmt.Errorf("reportData has %d bytes, not %d", len(data), len(r.ReportData))
		}
		r.ReportData = (*[64]byte)(data)
	} else if r.Nonce, err = bytesOf(o, "nonce"); err != nil {
		return nil, err
	}
	if o.Has("runtimeData") {
		if r.RuntimeData, err = bytesOf(o, "runtimeData"); err != nil {
			return nil, err
		}
	}
	if r.ReportData != nil && (o.Has("nonce") || o.Has("runtimeData")) {
		return nil, errors.New("request has reportData and something to compute it of; want one of the two")
	}
	return r, r.Validate()
}

// bytesOf decodes a field: standard base64 with padding, in one piece.
func bytesOf(o strictjson.Object, key string) ([]byte, error) {
	text, err := o.Text(key)
	if err != nil {
		return nil, err
	}
	if bytes.ContainsAny([]byte(text), "\r\n") { // which the decoder skips
		return nil, fmt.Errorf("%q: it has a line break", key)
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", key, err)
	}
	return b, nil
}

func line(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding JSON: %w", err)
	}
	return append(b, '\n'), nil
}
