// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Schema is the schema of every document that this package reads and writes.
const Schema = "cofferdam.dev/evidence/v1"

// TypeSEVSNP is the type of a document that holds an AMD SEV-SNP attestation report.
const TypeSEVSNP = "sev-snp"

// Limits of a document.
const (
	// MaxDocumentSize bounds the JSON text.
	MaxDocumentSize = 4 << 20
	// MaxReportSize bounds the report, whatever its type.
	MaxReportSize = 64 << 10
	// MaxCertificates and MaxCertificateSize bound the certificates.
	MaxCertificates    = 10
	MaxCertificateSize = 16 << 10
	// MinNonceSize and MaxNonceSize bound a nonce that is present.
	MinNonceSize = 8
	MaxNonceSize = 64
	// MaxRuntimeDataSize bounds the runtime data.
	MaxRuntimeDataSize = 64 << 10
	// MaxPolicySize bounds the policy text.
	MaxPolicySize = 1 << 20
)

// Document is a piece of evidence with what is needed to appraise it. Everything in it comes from the party that wants
// to be believed.
type Document struct {
	// Type says what Report is; TypeSEVSNP is the only one yet.
	Type string
	// Report is the signed report in its own format.
	Report []byte
	// Certificates are the certificates that lead from the report to a root, in DER. Their order does not matter.
	Certificates [][]byte
	// Source, Nonce and RuntimeData are what ReportData was computed of. All three are empty when the report's data was
	// made in another way.
	Source      Source
	Nonce       []byte
	RuntimeData []byte
	// Policy is the policy text that the report's host data names, or empty.
	Policy []byte
}

// wire is the JSON form. All byte strings are standard base64 with padding.
type wire struct {
	Schema       string   `json:"schema"`
	Type         string   `json:"type"`
	Report       string   `json:"report"`
	Certificates []string `json:"certificates,omitempty"`
	Source       Source   `json:"source,omitempty"`
	Nonce        string   `json:"nonce,omitempty"`
	RuntimeData  string   `json:"runtimeData,omitempty"`
	Policy       string   `json:"policy,omitempty"`
}

// ParseDocument decodes a document strictly: one JSON object, known keys only, each at most once and spelt exactly, every
// field within its limit.
func ParseDocument(b []byte) (*Document, error) {
	d, err := parseDocument(b)
	if err != nil {
		return nil, fmt.Errorf("parsing evidence document: %w", err)
	}
	return d, nil
}

func parseDocument(b []byte) (*Document, error) {
	if len(b) > MaxDocumentSize {
		return nil, fmt.Errorf("size is %d bytes, more than %d", len(b), MaxDocumentSize)
	}
	if err := checkKeys(b); err != nil {
		return nil, err
	}
	var w wire
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&w); err != nil {
		return nil, err
	}
	if w.Schema != Schema {
		return nil, fmt.Errorf("schema is %q, not %q", w.Schema, Schema)
	}
	if len(w.Certificates) > MaxCertificates {
		return nil, fmt.Errorf("there are %d certificates, more than %d", len(w.Certificates), MaxCertificates)
	}
	d := &Document{Type: w.Type, Source: w.Source}
	var errs []error
	field := func(name, text string) []byte {
		v, err := decodeBase64(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return v
	}
	d.Report, d.Nonce = field("report", w.Report), field("nonce", w.Nonce)
	d.RuntimeData, d.Policy = field("runtimeData", w.RuntimeData), field("policy", w.Policy)
	for i, c := range w.Certificates {
		d.Certificates = append(d.Certificates, field(fmt.Sprintf("certificates[%d]", i), c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return d, d.Validate()
}

// Validate returns an error when a field is outside of its limits.
func (d *Document) Validate() error {
	sizes := []struct {
		name           string
		size, min, max int
	}{
		{"type", len(d.Type), 1, 64},
		{"report", len(d.Report), 1, MaxReportSize},
		{"runtimeData", len(d.RuntimeData), 0, MaxRuntimeDataSize},
		{"policy", len(d.Policy), 0, MaxPolicySize},
		{"certificates", len(d.Certificates), 0, MaxCertificates},
	}
	for _, s := range sizes {
		if s.size < s.min || s.size > s.max {
			return fmt.Errorf("evidence document: %s has size %d, not %d to %d", s.name, s.size, s.min, s.max)
		}
	}
	for i, c := range d.Certificates {
		if len(c) == 0 || len(c) > MaxCertificateSize {
			return fmt.Errorf("evidence document: certificates[%d] has %d bytes, not 1 to %d", i, len(c), MaxCertificateSize)
		}
	}
	return d.validateBinding()
}

func (d *Document) validateBinding() error {
	if d.Source == "" {
		if len(d.Nonce) != 0 || len(d.RuntimeData) != 0 {
			return errors.New("evidence document: nonce or runtimeData without a source")
		}
		return nil
	}
	if err := d.Source.Validate(); err != nil {
		return fmt.Errorf("evidence document: %w", err)
	}
	if n := len(d.Nonce); n < MinNonceSize || n > MaxNonceSize {
		return fmt.Errorf("evidence document: nonce has %d bytes, not %d to %d", n, MinNonceSize, MaxNonceSize)
	}
	return nil
}

// Marshal encodes the document as indented JSON with a final newline.
func (d *Document) Marshal() ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	enc := base64.StdEncoding.EncodeToString
	w := wire{
		Schema: Schema, Type: d.Type, Report: enc(d.Report), Source: d.Source, Nonce: enc(d.Nonce),
		RuntimeData: enc(d.RuntimeData), Policy: enc(d.Policy),
	}
	for _, c := range d.Certificates {
		w.Certificates = append(w.Certificates, enc(c))
	}
	b, err := json.MarshalIndent(w, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding evidence document: %w", err)
	}
	return append(b, '\n'), nil
}

// checkKeys walks the one object that a document is. The decoder of encoding/json folds case and lets the last of several
// equal keys win; two readers could then see different documents in the same bytes.
func checkKeys(b []byte) error {
	dec := json.NewDecoder(bytes.NewReader(b))
	tok, err := dec.Token()
	if err != nil {
		return err
	}
	if tok != json.Delim('{') {
		return errors.New("it is not a JSON object")
	}
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return err
		}
		key, ok := tok.(string)
		if !ok || !knownKeys[key] || seen[key] {
			return fmt.Errorf("key %q is unknown or occurs twice", key)
		}
		seen[key] = true
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return err
		}
		if bytes.Equal(value, []byte("null")) {
			return fmt.Errorf("value of %q is null", key)
		}
	}
	if _, err := dec.Token(); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

var knownKeys = map[string]bool{
	"schema": true, "type": true, "report": true, "certificates": true, "source": true, "nonce": true,
	"runtimeData": true, "policy": true,
}

// decodeBase64 accepts exactly the text that the encoder writes.
func decodeBase64(s string) ([]byte, error) {
	if s == "" {
		return nil, nil
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("decoding base64: %w", err)
	}
	if base64.StdEncoding.EncodedLen(len(b)) != len(s) { // the decoder skips line breaks
		return nil, errors.New("decoding base64: it has line breaks")
	}
	return b, nil
}
