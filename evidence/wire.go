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

// wire is the JSON form. All byte strings are standard base64 with padding.
type wire struct {
	Schema       string              `json:"schema"`
	Type         string              `json:"type"`
	Report       string              `json:"report"`
	Certificates []string            `json:"certificates,omitempty"`
	Source       Source              `json:"source,omitempty"`
	Nonce        string              `json:"nonce,omitempty"`
	RuntimeData  string              `json:"runtimeData,omitempty"`
	Policy       string              `json:"policy,omitempty"`
	Endorsements []string            `json:"endorsements,omitempty"`
	EventLog     string              `json:"eventLog,omitempty"`
	Collateral   map[string]wireItem `json:"collateral,omitempty"`
}

// wireItem is the JSON form of an Item.
type wireItem struct {
	Body        string `json:"body"`
	IssuerChain string `json:"issuerChain,omitempty"`
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
	d, err := w.document()
	if err != nil {
		return nil, err
	}
	return d, d.Validate()
}

// document decodes every byte string.
func (w *wire) document() (*Document, error) {
	d := &Document{Type: w.Type, Source: w.Source}
	var errs []error
	field := func(name, text string) []byte {
		v, err := decodeBase64(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return v
	}
	list := func(name string, texts []string) [][]byte {
		var l [][]byte
		for i, t := range texts {
			l = append(l, field(fmt.Sprintf("%s[%d]", name, i), t))
		}
		return l
	}
	d.Report, d.Nonce = field("report", w.Report), field("nonce", w.Nonce)
	d.RuntimeData, d.Policy = field("runtimeData", w.RuntimeData), field("policy", w.Policy)
	d.Certificates, d.Endorsements = list("certificates", w.Certificates), list("endorsements", w.Endorsements)
	d.EventLog = field("eventLog", w.EventLog)
	for name, item := range w.Collateral {
		if d.Collateral == nil {
			d.Collateral = map[string]Item{}
		}
		d.Collateral[name] = Item{
			Body: field(fmt.Sprintf("collateral %q", name), item.Body), IssuerChain: field(fmt.Sprintf("issuer chain of %q", name), item.IssuerChain),
		}
	}
	return d, errors.Join(errs...)
}

// Marshal encodes the document as indented JSON with a final newline.
func (d *Document) Marshal() ([]byte, error) {
	if err := d.Validate(); err != nil {
		return nil, err
	}
	enc := base64.StdEncoding.EncodeToString
	w := wire{
		Schema: Schema, Type: d.Type, Report: enc(d.Report), Source: d.Source, Nonce: enc(d.Nonce),
		RuntimeData: enc(d.RuntimeData), Policy: enc(d.Policy), EventLog: enc(d.EventLog),
	}
	for _, c := range d.Certificates {
		w.Certificates = append(w.Certificates, enc(c))
	}
	for _, e := range d.Endorsements {
		w.Endorsements = append(w.Endorsements, enc(e))
	}
	for name, item := range d.Collateral {
		if w.Collateral == nil {
			w.Collateral = map[string]wireItem{}
		}
		w.Collateral[name] = wireItem{Body: enc(item.Body), IssuerChain: enc(item.IssuerChain)}
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
	err := walkObject(dec, func(key string) bool { return knownKeys[key] }, func(key string) error {
		if key != "collateral" {
			return skipValue(dec, key)
		}
		return walkObject(dec, func(string) bool { return true }, func(string) error {
			return walkObject(dec, func(key string) bool { return itemKeys[key] }, func(key string) error { return skipValue(dec, key) })
		})
	})
	if err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

// walkObject reads an object and calls value for each key, which must be known and new.
func walkObject(dec *json.Decoder, known func(string) bool, value func(key string) error) error {
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
		if !ok || !known(key) || seen[key] {
			return fmt.Errorf("key %q is unknown or occurs twice", key)
		}
		seen[key] = true
		if err := value(key); err != nil {
			return err
		}
	}
	_, err = dec.Token()
	return err
}

func skipValue(dec *json.Decoder, key string) error {
	var value json.RawMessage
	if err := dec.Decode(&value); err != nil {
		return err
	}
	if bytes.Equal(value, []byte("null")) {
		return fmt.Errorf("value of %q is null", key)
	}
	return nil
}

var knownKeys = map[string]bool{
	"schema": true, "type": true, "report": true, "certificates": true, "source": true, "nonce": true,
	"runtimeData": true, "policy": true, "endorsements": true, "eventLog": true, "collateral": true,
}

var itemKeys = map[string]bool{"body": true, "issuerChain": true}

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
