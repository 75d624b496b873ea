// SPDX-License-Identifier: Apache-2.0

package hcl

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/internal/strictpem"
)

// Limits of the JSON form.
const (
	// MaxEvidenceSize bounds the JSON text.
	MaxEvidenceSize = 64 << 10

	maxMessageSize     = 1024
	maxSignatureSize   = 1024
	maxCertificateSize = 8 << 10
	maxTDQuoteSize     = 16 << 10
	pcrSize            = 32
)

// Evidence is what an Azure confidential VM sends to whoever wants to know what it is.
type Evidence struct {
	// Report is the paravisor's report, as ParseReport takes it.
	Report []byte
	// Quote is what the TPM signed.
	Quote Quote
	// VCEK is the certificate of the chip key that signed an SNP report, in DER; empty where the evidence is of a TD.
	VCEK []byte
	// TDQuote is the DCAP quote that was made of a TDREPORT; empty where the evidence is of an SNP guest.
	TDQuote []byte
}

// Quote is a quote of the virtual TPM.
type Quote struct {
	// Message is the TPMS_ATTEST, as ParseAttest takes it.
	Message []byte
	// Signature is over Message, as ParseSignature takes it.
	Signature []byte
	// PCRs are the values of the SHA-256 bank.
	PCRs [PCRCount][pcrSize]byte
}

// ParseEvidence decodes the JSON form. Three are in use: the keys report, quote and vcek with arrays of numbers and PEM;
// the keys version, hcl_report, tpm_quote and vcek or td_quote with base64url and hexadecimal; and the second within
// {"platform": "az-snp" or "az-tdx", "evidence": …}. Anything else is an error.
func ParseEvidence(b []byte) (*Evidence, error) {
	e, err := parseEvidence(b)
	if err != nil {
		return nil, fmt.Errorf("parsing Azure evidence: %w", err)
	}
	return e, nil
}

func parseEvidence(b []byte) (*Evidence, error) {
	if len(b) > MaxEvidenceSize {
		return nil, fmt.Errorf("size is %d bytes, more than %d", len(b), MaxEvidenceSize)
	}
	o, err := strictjson.Parse(b)
	if err != nil {
		return nil, err
	}
	if o.Has("report") {
		return parseArrays(o)
	}
	if !o.Has("platform") {
		return parseTexts(o)
	}
	err = o.Only("platform", "evidence")
	if err != nil {
		return nil, err
	}
	platform, err := o.Text("platform")
	if err != nil {
		return nil, err
	}
	inner, err := o.Object("evidence")
	if err != nil {
		return nil, err
	}
	e, err := parseTexts(inner)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if want := map[bool]string{true: "az-snp", false: "az-tdx"}[len(e.VCEK) > 0]; platform != want {
		return nil, fmt.Errorf("platform is %q, but the evidence is of %q", platform, want)
	}
	return e, nil
}

// parseArrays reads the oldest form.
func parseArrays(o strictjson.Object) (*Evidence, error) {
	err := o.Only("report", "quote", "vcek")
	if err != nil {
		return nil, err
	}
	quote, err := o.Object("quote")
	if err != nil {
		return nil, err
	}
	err = quote.Only("message", "signature", "pcrs")
	if err != nil {
		return nil, fmt.Errorf("quote: %w", err)
	}
	e := &Evidence{}
	pcrs, err := quote.List("pcrs", PCRCount)
	if err == nil {
		err = e.Quote.readPCRs(pcrs, func(raw json.RawMessage) ([]byte, error) { return numbers(raw, pcrSize) })
	}
	errs := []error{err}
	array := func(name string, raw json.RawMessage, limit int) []byte {
		v, err := numbers(raw, limit)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
		return v
	}
	e.Report = array("report", o["report"], MaxSize)
	e.Quote.Message = array("quote.message", quote["message"], maxMessageSize)
	e.Quote.Signature = array("quote.signature", quote["signature"], maxSignatureSize)
	text, err := o.Text("vcek")
	errs = append(errs, err)
	if e.VCEK, err = strictpem.Certificate([]byte(text)); err != nil {
		errs = append(errs, fmt.Errorf("vcek: %w", err))
	}
	return e, errors.Join(errs...)
}

// parseTexts reads the newer form.
func parseTexts(o strictjson.Object) (*Evidence, error) {
	err := o.Only("version", "hcl_report", "tpm_quote", "vcek", "td_quote")
	if err != nil {
		return nil, err
	}
	if v := string(o["version"]); v != "1" && v != "2" {
		return nil, fmt.Errorf("version is %q, not 1 or 2", v)
	}
	if o.Has("vcek") == o.Has("td_quote") {
		return nil, errors.New("it has both or neither of vcek and td_quote")
	}
	quote, err := o.Object("tpm_quote")
	if err != nil {
		return nil, err
	}
	err = quote.Only("message", "signature", "pcrs")
	if err != nil {
		return nil, fmt.Errorf("tpm_quote: %w", err)
	}
	e := &Evidence{}
	pcrs, err := quote.List("pcrs", PCRCount)
	if err == nil {
		err = e.Quote.readPCRs(pcrs, func(raw json.RawMessage) ([]byte, error) {
			return decoded(strictjson.Object{"value": raw}, "value", pcrSize, decodeHex)
		})
	}
	errs := []error{err}
	field := func(from strictjson.Object, name string, limit int, decode func(string) ([]byte, error)) []byte {
		v, err := decoded(from, name, limit, decode)
		errs = append(errs, err)
		return v
	}
	e.Report = field(o, "hcl_report", MaxSize, decodeBase64URL)
	e.Quote.Message = field(quote, "message", maxMessageSize, decodeHex)
	e.Quote.Signature = field(quote, "signature", maxSignatureSize, decodeHex)
	if o.Has("vcek") {
		e.VCEK = field(o, "vcek", maxCertificateSize, decodeBase64URL)
	} else {
		e.TDQuote = field(o, "td_quote", maxTDQuoteSize, decodeBase64URL)
	}
	return e, errors.Join(errs...)
}

func (q *Quote) readPCRs(list []json.RawMessage, read func(json.RawMessage) ([]byte, error)) error {
	if len(list) != PCRCount {
		return fmt.Errorf("there are %d PCRs, not %d", len(list), PCRCount)
	}
	for i, raw := range list {
		v, err := read(raw)
		if err == nil && len(v) != pcrSize {
			err = fmt.Errorf("it has %d bytes, not %d", len(v), pcrSize)
		}
		if err != nil {
			return fmt.Errorf("PCR %d: %w", i, err)
		}
		q.PCRs[i] = [pcrSize]byte(v)
	}
	return nil
}

// numbers reads bytes from an array of numbers. The elements are pointers because encoding/json wants a text for []uint8.
func numbers(raw json.RawMessage, limit int) ([]byte, error) {
	var list []*uint8
	err := json.Unmarshal(raw, &list)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 || len(list) > limit {
		return nil, fmt.Errorf("there are %d numbers, not 1 to %d", len(list), limit)
	}
	b := make([]byte, len(list))
	for i, v := range list {
		if v == nil {
			return nil, fmt.Errorf("number %d is null", i)
		}
		b[i] = *v
	}
	return b, nil
}

func decoded(from strictjson.Object, name string, limit int, decode func(string) ([]byte, error)) ([]byte, error) {
	s, err := from.Text(name)
	if err != nil {
		return nil, err
	}
	b, err := decode(s)
	if err == nil && (len(b) == 0 || len(b) > limit) {
		err = fmt.Errorf("it has %d bytes, not 1 to %d", len(b), limit)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return b, nil
}

// decodeHex accepts lower-case hexadecimal alone.
func decodeHex(s string) ([]byte, error) {
	b, err := hex.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("decoding hexadecimal: %w", err)
	}
	if hex.EncodeToString(b) != s {
		return nil, errors.New("decoding hexadecimal: it is not in lower case")
	}
	return b, nil
}

// Marshal encodes the evidence in the second form, version 1.
func (e *Evidence) Marshal() ([]byte, error) {
	type quote struct {
		Message   string   `json:"message"`
		Signature string   `json:"signature"`
		PCRs      []string `json:"pcrs"`
	}
	w := struct {
		Version int    `json:"version"`
		Report  string `json:"hcl_report"`
		Quote   quote  `json:"tpm_quote"`
		VCEK    string `json:"vcek,omitempty"`
		TDQuote string `json:"td_quote,omitempty"`
	}{
		Version: 1, Report: base64.RawURLEncoding.EncodeToString(e.Report),
		Quote: quote{Message: hex.EncodeToString(e.Quote.Message), Signature: hex.EncodeToString(e.Quote.Signature)},
		VCEK:  base64.RawURLEncoding.EncodeToString(e.VCEK), TDQuote: base64.RawURLEncoding.EncodeToString(e.TDQuote),
	}
	for _, p := range e.Quote.PCRs {
		w.Quote.PCRs = append(w.Quote.PCRs, hex.EncodeToString(p[:]))
	}
	b, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encoding Azure evidence: %w", err)
	}
	if _, err = ParseEvidence(b); err != nil {
		return nil, fmt.Errorf("encoding Azure evidence: %w", err)
	}
	return b, nil
}
