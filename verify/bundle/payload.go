// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"cofferdam.dev/collateral"
	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/verify"
	"cofferdam.dev/verify/appraisal"
)

// maxReportData bounds how many report data of another form may have been expected.
const maxReportData = 16

// wire is the JSON form of a payload. Byte strings are base64.
type wire struct {
	Schema     string              `json:"schema"`
	Evidence   json.RawMessage     `json:"evidence"`
	Request    wireRequest         `json:"request"`
	Collateral map[string]wireItem `json:"collateral,omitempty"`
	Policy     json.RawMessage     `json:"policy"`
	Verdict    json.RawMessage     `json:"verdict"`
}

// wireRequest is the JSON form of what the relying party knew. RuntimeData may be there and empty.
type wireRequest struct {
	Time        time.Time `json:"time"`
	Nonce       []byte    `json:"nonce,omitempty"`
	RuntimeData []byte    `json:"runtimeData,omitzero"`
	ReportData  [][]byte  `json:"reportData,omitempty"`
}

// wireItem is the JSON form of a piece of collateral.
type wireItem struct {
	Body        []byte `json:"body"`
	IssuerChain []byte `json:"issuerChain,omitempty"`
}

// payload returns what is signed.
func (b *Bundle) payload() ([]byte, error) {
	w := wire{
		Schema:  Schema,
		Request: wireRequest{Time: b.Time.UTC(), Nonce: b.Nonce, RuntimeData: b.RuntimeData, ReportData: b.ReportData},
	}
	for name, it := range b.Collateral {
		if w.Collateral == nil {
			w.Collateral = map[string]wireItem{}
		}
		w.Collateral[name] = wireItem(it)
	}
	var errs [4]error
	w.Evidence, errs[0] = b.Document.Marshal()
	w.Policy, errs[1] = b.Policy.Canonical()
	w.Verdict, errs[2] = json.Marshal(b.Verdict)
	var text []byte
	if err := errors.Join(errs[:]...); err == nil {
		text, errs[3] = json.Marshal(w) // compacts what is inside
	}
	if err := errors.Join(errs[:]...); err != nil {
		return nil, fmt.Errorf("encoding a bundle: %w", err)
	}
	// What can not be read back must not be kept.
	if _, err := parse(text); err != nil {
		return nil, fmt.Errorf("encoding a bundle: %w", err)
	}
	return text, nil
}

// parse reads a payload strictly.
func parse(text []byte) (*Bundle, error) {
	// Twice the same key, or one that differs in case, would let two readers see two appraisals.
	o, err := strictjson.Parse(text)
	if err != nil {
		return nil, err
	}
	if err = o.Only("schema", "evidence", "request", "collateral", "policy", "verdict"); err != nil {
		return nil, err
	}
	var w wire
	if err = strict(text, &w); err != nil {
		return nil, err
	}
	if w.Schema != Schema {
		return nil, fmt.Errorf("schema is %q, not %q", w.Schema, Schema)
	}
	b := &Bundle{
		Time: w.Request.Time.UTC(), Nonce: w.Request.Nonce, RuntimeData: w.Request.RuntimeData, ReportData: w.Request.ReportData,
		Verdict: &verify.Verdict{},
	}
	if err = b.checkRequest(); err != nil {
		return nil, err
	}
	if b.Document, err = evidence.ParseDocument(w.Evidence); err != nil {
		return nil, err
	}
	if b.Policy, err = appraisal.Parse(w.Policy); err != nil {
		return nil, err
	}
	if err = strict(w.Verdict, b.Verdict); err != nil {
		return nil, fmt.Errorf("verdict: %w", err)
	}
	if b.Verdict.Schema != verify.Schema || !slices.Contains([]verify.Outcome{verify.Accepted, verify.Refused, verify.Undecided}, b.Verdict.Outcome) {
		return nil, fmt.Errorf("verdict: it has schema %q and outcome %q", b.Verdict.Schema, b.Verdict.Outcome)
	}
	b.Collateral, err = readCollateral(w.Collateral)
	return b, err
}

func (b *Bundle) checkRequest() error {
	if b.Time.IsZero() {
		return errors.New("request: there is no time of appraisal")
	}
	if len(b.Nonce) > evidence.MaxNonceSize || len(b.RuntimeData) > evidence.MaxRuntimeDataSize || len(b.ReportData) > maxReportData {
		return fmt.Errorf("request: nonce, runtime data or report data are beyond their limits of %d bytes, %d bytes and %d values",
			evidence.MaxNonceSize, evidence.MaxRuntimeDataSize, maxReportData)
	}
	return nil
}

func readCollateral(items map[string]wireItem) (collateral.Embedded, error) {
	if len(items) > evidence.MaxCollateral {
		return nil, fmt.Errorf("collateral: there are %d pieces, more than %d", len(items), evidence.MaxCollateral)
	}
	e := collateral.Embedded{}
	for name, it := range items {
		r, err := collateral.ParseName(name)
		if err != nil {
			return nil, fmt.Errorf("collateral: %w", err)
		}
		if r.Name() != name || len(it.Body) == 0 || len(it.Body) > collateral.MaxBodySize || len(it.IssuerChain) > collateral.MaxIssuerChainSize {
			return nil, fmt.Errorf("collateral: %q is empty, too long or not named canonically", name)
		}
		e[name] = collateral.Item(it)
	}
	return e, nil
}

// strict decodes one JSON value with known keys only.
func strict(text []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	return dec.Decode(v)
}
