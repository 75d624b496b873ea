// SPDX-License-Identifier: Apache-2.0

package uvm

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"cofferdam.dev/evidence/cose1"
	"cofferdam.dev/internal/strictjson"
)

// MeasurementSize is the size of a launch measurement in bytes.
const MeasurementSize = 48

// MaxSize bounds an endorsement.
const MaxSize = 256 << 10

// maxPayload bounds the JSON of the older form.
const maxPayload = 4 << 10

// Keys of the JSON payload.
const (
	keySVN         = "x-ms-sevsnpvm-guestsvn"
	keySVNNumber   = "x-ms-sevsnpvm-guestsvn-int"
	keyMeasurement = "x-ms-sevsnpvm-launchmeasurement"
)

const jsonType = "application/json"

// Endorsement is a signed statement that a utility VM with a certain launch measurement is a certain publisher's, and how
// recent it is. All of it is a claim until the message is verified.
type Endorsement struct {
	// Message is the signed message.
	Message *cose1.Message
	// Issuer is who says to have signed, as a did:x509, and Feed the series that the endorsement belongs to.
	Issuer, Feed string
	// Chain is the signer's certificates, leaf first.
	Chain []*x509.Certificate
	// IssuedAt is when the signer says to have signed; zero where it is not said.
	IssuedAt time.Time
	// SVN is the security version of what is endorsed, nil where it is not said: the guest SVN of the older form, the CWT
	// claim "svn" of the newer.
	SVN *uint64
	// Measurement is the launch measurement, 48 bytes; empty where the statement is about something else.
	Measurement []byte
}

// Parse decodes an endorsement of either form.
func Parse(b []byte) (*Endorsement, error) {
	e, err := parse(b)
	if err != nil {
		return nil, fmt.Errorf("parsing UVM endorsement: %w", err)
	}
	return e, nil
}

func parse(b []byte) (*Endorsement, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed", len(b), MaxSize)
	}
	m, err := cose1.Parse(b)
	if err != nil {
		return nil, err
	}
	if c := m.Critical(); len(c) > 0 {
		return nil, fmt.Errorf("critical header %q is not understood", c)
	}
	e := &Endorsement{Message: m, Issuer: m.Header.Issuer, Feed: m.Header.Feed, Chain: m.Header.Chain, IssuedAt: m.Header.IssuedAt}
	envelope, err := m.HashEnvelope()
	if err != nil {
		return nil, err
	}
	switch {
	case m.Header.Form == cose1.FormText && envelope == nil:
		err = e.readJSON(m)
	case m.Header.Form == cose1.FormClaims && envelope != nil:
		err = e.readEnvelope(m, envelope)
	default:
		err = errors.New("it has neither text keys and a JSON payload nor CWT claims and a hash envelope")
	}
	return e, err
}

// readJSON reads the payload of the older form. Keys that are not known are skipped: publishers add some.
func (e *Endorsement) readJSON(m *cose1.Message) error {
	if m.Header.ContentType != jsonType {
		return fmt.Errorf("content type is %q, not %q", m.Header.ContentType, jsonType)
	}
	if len(m.Payload) > maxPayload {
		return fmt.Errorf("payload has %d bytes, at most %d are allowed", len(m.Payload), maxPayload)
	}
	o, err := strictjson.Parse(m.Payload)
	if err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	if e.SVN, err = readSVN(o); err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	if !o.Has(keyMeasurement) {
		return nil
	}
	text, err := o.Text(keyMeasurement)
	if err != nil {
		return fmt.Errorf("payload: %w", err)
	}
	e.Measurement, err = hex.DecodeString(text)
	if err != nil || len(e.Measurement) != MeasurementSize {
		return fmt.Errorf("payload: %s is not %d bytes in hexadecimal", keyMeasurement, MeasurementSize)
	}
	return nil
}

// readSVN reads the version as a text, as a number, or as both when they agree.
func readSVN(o strictjson.Object) (*uint64, error) {
	var found *uint64
	for _, key := range []string{keySVN, keySVNNumber} {
		if !o.Has(key) {
			continue
		}
		text := string(o[key])
		if key == keySVN {
			t, err := o.Text(key)
			if err != nil {
				return nil, err
			}
			text = t
		}
		v, err := strconv.ParseUint(text, 10, 32)
		if err != nil || strconv.FormatUint(v, 10) != text {
			return nil, fmt.Errorf("%s is %q, not a number from 0 on", key, text)
		}
		if found != nil && *found != v {
			return nil, fmt.Errorf("%s is %d, but %s is %d", keySVN, *found, keySVNNumber, v)
		}
		found = &v
	}
	return found, nil
}

// readEnvelope takes the measurement from a hash envelope: the launch measurement is a SHA-384, and so is "the hash".
func (e *Endorsement) readEnvelope(m *cose1.Message, envelope *cose1.Envelope) error {
	if envelope.Hash != cose1.HashSHA384 || len(m.Payload) != MeasurementSize {
		return fmt.Errorf("payload has %d bytes and hash algorithm %d, want %d of SHA-384 (%d)", len(m.Payload), envelope.Hash,
			MeasurementSize, cose1.HashSHA384)
	}
	e.Measurement = m.Payload
	if m.Header.SVN != nil {
		v := uint64(*m.Header.SVN) // not negative: see the header's parser
		e.SVN = &v
	}
	return nil
}
