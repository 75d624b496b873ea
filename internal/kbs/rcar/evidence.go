// SPDX-License-Identifier: Apache-2.0

package rcar

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"cofferdam.dev/evidence/hcl"
	"cofferdam.dev/internal/strictjson"
)

// Evidence is evidence in the form in which it is verified.
type Evidence struct {
	// Report is an SNP report, a quote, or the JSON of a VM with a vTPM.
	Report []byte
	// Certificates are those that the host added to an SNP report, in DER.
	Certificates [][]byte
	// EventLog is the log of measured events of a trust domain, or empty.
	EventLog []byte
}

// Limits of evidence.
const (
	maxCertificates = 16
	maxCertificate  = 16 << 10
)

func parseEvidence(tee TEE, raw json.RawMessage) (Evidence, error) {
	switch tee {
	case SNP:
		return parseSNP(raw)
	case TDX:
		return parseQuote(raw, "cc_eventlog")
	case SGX:
		return parseQuote(raw)
	case AzureSNP, AzureTDX:
		return parseAzure(tee, raw)
	}
	return Evidence{}, fmt.Errorf("%w: %s", ErrTEE, quote(string(tee)))
}

// parseQuote reads a quote in base64, and a log of events where one may be.
func parseQuote(raw json.RawMessage, log ...string) (Evidence, error) {
	o, err := strictjson.Parse(raw)
	if err != nil {
		return Evidence{}, err
	}
	if err := o.Only(append(log, "quote")...); err != nil {
		return Evidence{}, err
	}
	var e Evidence
	if e.Report, err = decode64(o, "quote"); err != nil {
		return e, err
	}
	for _, name := range log {
		if o.Has(name) && !null(o[name]) {
			if e.EventLog, err = decode64(o, name); err != nil {
				return e, err
			}
		}
	}
	return e, nil
}

func decode64(o strictjson.Object, name string) ([]byte, error) {
	text, err := o.Text(name)
	if err != nil {
		return nil, err
	}
	b, err := base64.StdEncoding.Strict().DecodeString(text)
	if err == nil && len(b) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w", name, err)
	}
	return b, nil
}

func null(raw json.RawMessage) bool { return string(bytes.TrimSpace(raw)) == "null" }

// parseAzure requires the evidence to be of the hardware that the guest announced; the form is the one that is verified.
func parseAzure(tee TEE, raw json.RawMessage) (Evidence, error) {
	e, err := hcl.ParseEvidence(raw)
	if err != nil {
		return Evidence{}, err
	}
	if (tee == AzureSNP) != (len(e.VCEK) > 0) {
		return Evidence{}, fmt.Errorf("it is not of %s", tee)
	}
	return Evidence{Report: raw}, nil
}

// parseSNP reads a report as its members and certificates with their types.
func parseSNP(raw json.RawMessage) (Evidence, error) {
	o, err := strictjson.Parse(raw)
	if err != nil {
		return Evidence{}, err
	}
	if err := o.Only("attestation_report", "cert_chain"); err != nil {
		return Evidence{}, err
	}
	report, err := o.Object("attestation_report")
	if err != nil {
		return Evidence{}, err
	}
	var e Evidence
	if e.Report, err = parseReport(report); err != nil {
		return e, fmt.Errorf("attestation_report: %w", err)
	}
	if !o.Has("cert_chain") || null(o["cert_chain"]) {
		return e, nil
	}
	list, err := o.List("cert_chain", maxCertificates)
	if err != nil {
		return e, err
	}
	for i, entry := range list {
		der, err := parseCertificate(entry)
		if err != nil {
			return e, fmt.Errorf("cert_chain[%d]: %w", i, err)
		}
		if der != nil {
			e.Certificates = append(e.Certificates, der)
		}
	}
	return e, nil
}

// parseCertificate returns nothing for entries that are no certificates.
func parseCertificate(raw json.RawMessage) ([]byte, error) {
	o, err := strictjson.Parse(raw)
	if err != nil {
		return nil, err
	}
	if err := o.Only("cert_type", "data"); err != nil {
		return nil, err
	}
	kind, err := o.Text("cert_type")
	if err != nil {
		return nil, nil //nolint:nilerr // {"OTHER": …} is the host's own
	}
	switch kind {
	case "ARK", "ASK", "VCEK", "VLEK":
		return numbers(o, "data", 1, maxCertificate)
	case "CRL", "Empty":
		return nil, nil
	}
	return nil, errors.New("the type of the certificate is unknown")
}

// numbers reads bytes from an array of numbers.
func numbers(o strictjson.Object, name string, least, most int) ([]byte, error) {
	var list []uint16 // encoding/json wants a text for bytes
	raw := o[name]
	if len(raw) > 8*most+16 {
		return nil, fmt.Errorf("%q is too long", name)
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%q is not there, or no array of numbers", name)
	}
	if len(list) < least || len(list) > most {
		return nil, fmt.Errorf("%q has %d bytes, not %d to %d", name, len(list), least, most)
	}
	b := make([]byte, len(list))
	for i, v := range list {
		if v > 0xff {
			return nil, fmt.Errorf("%q has the number %d, which is no byte", name, v)
		}
		b[i] = byte(v)
	}
	return b, nil
}
