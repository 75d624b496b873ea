// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"cofferdam.dev/internal/strictjson"
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
	if err := json.Unmarshal(b, &w); err != nil {
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

// checkKeys requires keys to be known, spelt exactly, and to have values. The decoder of encoding/json folds case and lets the
// last of several equal keys win; two readers could then see different documents in the same bytes.
func checkKeys(b []byte) error {
	o, err := strictjson.Parse(b)
	if err != nil {
		return err
	}
	err = known(o, "schema", "type", "report", "certificates", "source", "nonce", "runtimeData", "policy", "endorsements", "eventLog", "collateral")
	if err != nil || !o.Has("collateral") {
		return err
	}
	items, err := o.Object("collateral")
	if err != nil {
		return err
	}
	for name := range items {
		item, err := items.Object(name)
		if err == nil {
			err = known(item, "body", "issuerChain")
		}
		if err != nil {
			return fmt.Errorf("collateral: %w", err)
		}
	}
	return nil
}

func known(o strictjson.Object, keys ...string) error {
	for key, value := range o {
		if string(value) == "null" {
			return fmt.Errorf("value of %q is null", key)
		}
	}
	return o.Only(keys...)
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
