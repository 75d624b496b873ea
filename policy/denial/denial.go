// SPDX-License-Identifier: Apache-2.0

package denial

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// MaxMessage bounds an encoded denial, marker included.
const MaxMessage = 3 << 10

// maxInput bounds the text that Decode looks through.
const maxInput = 1 << 20

// Redacted stands in the place of an environment variable's value.
const Redacted = "<<redacted>>"

// The placeholders of capability sets that are the runtime's defaults.
const (
	Privileged   = "[privileged]"
	Unprivileged = "[unprivileged]"
)

// What Truncated lists, in the order in which parts are left out.
const (
	TruncatedErrorObjects = "reason.error_objects"
	TruncatedInput        = "input"
	TruncatedReason       = "reason"
)

// Denial is one refused request.
type Denial struct {
	// Input is the request as the policy saw it, redacted, with the enforcement point under "rule". Nil when it was
	// left out to save space.
	Input map[string]any

	// Errors are the reasons; ErrorObjects what some policies tell besides.
	Errors       []string
	ErrorObjects []any

	// Remark is a reason that is no list: some enforcers write a sentence in its place.
	Remark string

	// PolicyError says that the policy could not be evaluated.
	PolicyError string

	// Truncated lists what was left out.
	Truncated []string
}

// New makes the denial of a request at an enforcement point. The input is copied as far as it is changed.
func New(point string, input map[string]any, reasons []string) *Denial {
	in := maps.Clone(input)
	if in == nil {
		in = map[string]any{}
	}
	in["rule"] = point
	if env, ok := in["envList"]; ok {
		in["envList"] = redact(texts(env))
	}
	if p := placeholder(in["capabilities"]); p != "" {
		in["capabilities"] = p
	}
	return &Denial{Input: in, Errors: slices.Clone(reasons)}
}

// Point returns the enforcement point, empty when it was left out.
func (d *Denial) Point() string {
	s, _ := d.Input["rule"].(string)
	return s
}

func redact(env []string) []string {
	out := make([]string, len(env))
	for i, e := range env {
		name, _, _ := strings.Cut(e, "=")
		out[i] = name + "=" + Redacted
	}
	return out
}

// texts reads a list of texts, whoever made it; other elements are shown as they print.
func texts(v any) []string {
	switch v := v.(type) {
	case []string:
		return v
	case []any:
		out := make([]string, len(v))
		for i, x := range v {
			out[i] = fmt.Sprint(x)
		}
		return out
	}
	return nil
}

type wireReason struct {
	Errors       []string `json:"errors"`
	ErrorObjects []any    `json:"error_objects,omitempty"`
}

type wire struct {
	Decision    string         `json:"decision"`
	Input       map[string]any `json:"input,omitempty"`
	Reason      any            `json:"reason,omitempty"`
	PolicyError string         `json:"policyError,omitempty"`
	Truncated   []string       `json:"truncated,omitempty"`
}

// Encode writes the message. What makes it too long is left out and named in "truncated": first the error objects,
// then the input, then the reasons.
func (d *Denial) Encode() (string, error) {
	kept := *d
	steps := []struct {
		name string
		drop func()
	}{
		{"", func() {}},
		{TruncatedErrorObjects, func() { kept.ErrorObjects = nil }},
		{TruncatedInput, func() { kept.Input = nil }},
		{TruncatedReason, func() { kept.Errors, kept.Remark, kept.PolicyError = nil, "", "" }},
	}
	held := map[string]bool{"": true, TruncatedErrorObjects: len(d.ErrorObjects) > 0, TruncatedInput: d.Input != nil, TruncatedReason: true}
	for _, s := range steps {
		if !held[s.name] {
			continue
		}
		s.drop()
		if s.name != "" {
			kept.Truncated = append(slices.Clone(kept.Truncated), s.name)
		}
		message, err := kept.message()
		if err != nil {
			return "", fmt.Errorf("encoding a denial: %w", err)
		}
		if len(message) <= MaxMessage {
			return message, nil
		}
	}
	return "", errors.New("encoding a denial: the list of what was left out is itself too long")
}

func (d *Denial) message() (string, error) {
	w := wire{Decision: "deny", Input: d.Input, PolicyError: d.PolicyError, Truncated: d.Truncated}
	switch {
	case slices.Contains(d.Truncated, TruncatedReason):
	case d.Remark != "":
		w.Reason = d.Remark
	default:
		w.Reason = wireReason{Errors: append([]string{}, d.Errors...), ErrorObjects: d.ErrorObjects}
	}
	data, err := json.Marshal(w)
	if err != nil {
		return "", err
	}
	return "policyDecision< " + base64.StdEncoding.EncodeToString(data) + " >policyDecision", nil
}

// marked is prepared when it is first used: a guest writes denials and never reads one.
var marked = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`policyDecision<\s*([A-Za-z0-9+/=\s]*?)\s*>policyDecision`)
})

// Decode finds the first denial in a text: between its markers, or as the bare base64 or JSON of one.
func Decode(text string) (*Denial, error) {
	if len(text) > maxInput {
		return nil, fmt.Errorf("decoding a denial: text has %d bytes, at most %d are read", len(text), maxInput)
	}
	text = strings.TrimSpace(text)
	data := []byte(text)
	if !strings.HasPrefix(text, "{") {
		encoded, bare := text, true
		if m := marked().FindStringSubmatch(text); m != nil {
			encoded, bare = m[1], false
		}
		var err error
		data, err = base64.StdEncoding.DecodeString(strings.Join(strings.Fields(encoded), ""))
		if err != nil || bare && !bytes.HasPrefix(data, []byte("{")) { // many a word happens to be base64
			return nil, errors.New(`decoding a denial: found neither "policyDecision< … >policyDecision" nor its content`)
		}
	}
	d, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("decoding a denial: %w", err)
	}
	return d, nil
}

// Last finds the last denial between markers in a log.
func Last(log string) (*Denial, error) {
	if len(log) > maxInput {
		return nil, fmt.Errorf("decoding a denial: log has %d bytes, at most %d are read", len(log), maxInput)
	}
	all := marked().FindAllString(log, -1)
	if len(all) == 0 {
		return nil, ErrNone
	}
	return Decode(all[len(all)-1])
}

// ErrNone says that a log holds no denial.
var ErrNone = errors.New("there is no denial in the log")

func parse(data []byte) (*Denial, error) {
	var w struct {
		wire
		Reason json.RawMessage `json:"reason"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return nil, err
	}
	if w.Decision != "deny" {
		return nil, fmt.Errorf(`decision is %q, expected "deny"`, w.Decision)
	}
	d := &Denial{Input: w.Input, PolicyError: w.PolicyError, Truncated: w.Truncated}
	if len(w.Reason) == 0 || string(w.Reason) == "null" {
		return d, nil
	}
	var r wireReason
	if json.Unmarshal(w.Reason, &d.Remark) == nil {
		return d, nil
	}
	if err := json.Unmarshal(w.Reason, &r); err != nil {
		return nil, fmt.Errorf("reason: %w", err)
	}
	d.Errors, d.ErrorObjects = r.Errors, r.ErrorObjects
	return d, nil
}
