// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"encoding/binary"
	"fmt"

	"cofferdam.dev/evidence/internal/fixed"
)

// MessageType numbers the messages between a guest and the secure processor. SNP ABI, table "MSG_TYPE encodings".
type MessageType uint8

// The message types that are used here.
const (
	MessageInvalid        MessageType = 0
	MessageKeyRequest     MessageType = 3
	MessageKeyResponse    MessageType = 4
	MessageReportRequest  MessageType = 5
	MessageReportResponse MessageType = 6

	// MessageCertificatesRequest and MessageCertificatesResponse are no messages of the firmware, which has none above
	// 7Fh here: they stand for the hypervisor's part of an extended guest request (GHCB, section "SNP Extended Guest
	// Request"), which hands a guest the certificate table of its report. They exist on the simulator's port only.
	MessageCertificatesRequest  MessageType = 0x80
	MessageCertificatesResponse MessageType = 0x81
)

// Status is the first word of a response. SNP ABI, tables "MSG_REPORT_RSP" and "MSG_KEY_RSP".
type Status uint32

// The statuses of the ABI.
const (
	StatusSuccess          Status = 0
	StatusInvalidParameter Status = 0x16
	StatusInvalidKey       Status = 0x27
)

// String returns the status's name.
func (s Status) String() string {
	switch s {
	case StatusSuccess:
		return "success"
	case StatusInvalidParameter:
		return "invalid parameters (0x16)"
	case StatusInvalidKey:
		return "invalid key selection (0x27)"
	}
	return fmt.Sprintf("status %#x", uint32(s))
}

// Sizes of the messages.
const (
	// ReportRequestSize is the size of MSG_REPORT_REQ.
	ReportRequestSize = 0x60
	// KeyRequestSize is the size of version 1 of MSG_KEY_REQ.
	KeyRequestSize = 0x20
	// KeyResponseSize is the size of MSG_KEY_RSP.
	KeyResponseSize = 0x40

	responseHeaderSize = 0x20
)

// ReportRequest is MSG_REPORT_REQ.
type ReportRequest struct {
	// ReportData is signed as part of the report.
	ReportData [64]byte
	// VMPL is put into the report. It must not be more privileged than the guest that asks.
	VMPL uint32
	// KeySelect chooses the signing key: 0 lets the firmware choose, 1 is the VCEK, 2 the VLEK.
	KeySelect uint32
}

// Marshal encodes the request.
func (r *ReportRequest) Marshal() []byte {
	b := append(make([]byte, 0, ReportRequestSize), r.ReportData[:]...)
	b = binary.LittleEndian.AppendUint32(b, r.VMPL)
	b = binary.LittleEndian.AppendUint32(b, r.KeySelect)
	return fixed.Pad(b, ReportRequestSize)
}

// ParseReportRequest decodes MSG_REPORT_REQ.
func ParseReportRequest(b []byte) (*ReportRequest, error) {
	if len(b) != ReportRequestSize {
		return nil, fmt.Errorf("parsing MSG_REPORT_REQ: size is %d bytes, not %d", len(b), ReportRequestSize)
	}
	d := newDecoder(b)
	r := &ReportRequest{ReportData: [64]byte(d.Next(64)), VMPL: d.U32(), KeySelect: d.U32()}
	d.Zero(ReportRequestSize)
	if d.Err != nil {
		return nil, fmt.Errorf("parsing MSG_REPORT_REQ: %w", d.Err)
	}
	return r, nil
}

// ReportResponse is MSG_REPORT_RSP. Report is empty unless Status is StatusSuccess.
type ReportResponse struct {
	Status Status
	Report []byte
}

// Marshal encodes the response.
func (r *ReportResponse) Marshal() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(r.Status))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(r.Report)))
	return append(fixed.Pad(b, responseHeaderSize), r.Report...)
}

// ParseReportResponse decodes MSG_REPORT_RSP and requires it to hold a report exactly when it says so.
func ParseReportResponse(b []byte) (*ReportResponse, error) {
	if len(b) < responseHeaderSize {
		return nil, fmt.Errorf("parsing MSG_REPORT_RSP: size is %d bytes, less than %d", len(b), responseHeaderSize)
	}
	d := newDecoder(b)
	r := &ReportResponse{Status: Status(d.U32())}
	size := d.U32()
	d.Zero(responseHeaderSize)
	rest := b[responseHeaderSize:]
	want := ReportSize
	if r.Status != StatusSuccess {
		want = 0
	}
	switch {
	case d.Err != nil:
		return nil, fmt.Errorf("parsing MSG_REPORT_RSP: %w", d.Err)
	case uint64(size) != uint64(len(rest)) || len(rest) != want:
		return nil, fmt.Errorf("parsing MSG_REPORT_RSP: %s with a stated size of %d and %d bytes, not %d", r.Status, size,
			len(rest), want)
	}
	r.Report = append([]byte(nil), rest...)
	return r, nil
}

// FieldSelect says which properties of the guest a derived key depends on. SNP ABI, table "GUEST_FIELD_SELECT".
type FieldSelect uint64

// Bits of FieldSelect.
const (
	FieldPolicy      FieldSelect = 1 << 0
	FieldImageID     FieldSelect = 1 << 1
	FieldFamilyID    FieldSelect = 1 << 2
	FieldMeasurement FieldSelect = 1 << 3
	FieldGuestSVN    FieldSelect = 1 << 4
	FieldTCB         FieldSelect = 1 << 5

	fieldKnown FieldSelect = 1<<6 - 1
)

// Unknown returns the bits that version 1 of MSG_KEY_REQ does not define.
func (f FieldSelect) Unknown() FieldSelect { return f &^ fieldKnown }

// The root keys that a derived key can come from.
const (
	// RootKeyVCEK derives from the chip and outlives the guest.
	RootKeyVCEK uint32 = 0
	// RootKeyVMRK derives from the guest instance and dies with it.
	RootKeyVMRK uint32 = 1
)

// KeyRequest is version 1 of MSG_KEY_REQ.
type KeyRequest struct {
	// RootKey is RootKeyVCEK or RootKeyVMRK.
	RootKey uint32
	// Fields selects what else the key depends on.
	Fields FieldSelect
	// VMPL is mixed into the key and must not be more privileged than the guest that asks.
	VMPL uint32
	// GuestSVN is mixed in when selected, and must not exceed the guest's.
	GuestSVN uint32
	// TCB is mixed in when selected, and must not exceed the committed TCB.
	TCB TCB
}

// Marshal encodes the request.
func (r *KeyRequest) Marshal() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(make([]byte, 0, KeyRequestSize), r.RootKey)
	b = le.AppendUint32(b, 0)
	b = le.AppendUint64(b, uint64(r.Fields))
	b = le.AppendUint32(b, r.VMPL)
	b = le.AppendUint32(b, r.GuestSVN)
	return append(b, r.TCB[:]...)
}

// ParseKeyRequest decodes version 1 of MSG_KEY_REQ.
func ParseKeyRequest(b []byte) (*KeyRequest, error) {
	if len(b) != KeyRequestSize {
		return nil, fmt.Errorf("parsing MSG_KEY_REQ: size is %d bytes, not %d", len(b), KeyRequestSize)
	}
	d := newDecoder(b)
	r := &KeyRequest{RootKey: d.U32()}
	d.Zero(8)
	r.Fields, r.VMPL, r.GuestSVN, r.TCB = FieldSelect(d.U64()), d.U32(), d.U32(), d.tcb()
	if d.Err != nil {
		return nil, fmt.Errorf("parsing MSG_KEY_REQ: %w", d.Err)
	}
	return r, nil
}

// KeyResponse is MSG_KEY_RSP.
type KeyResponse struct {
	Status Status
	Key    DerivedKey
}

// DerivedKey is a secret key. It redacts itself wherever it is printed; its bytes are reached by indexing.
type DerivedKey [32]byte

// String returns a placeholder instead of the key.
func (DerivedKey) String() string { return "[redacted]" }

// GoString returns a placeholder instead of the key.
func (DerivedKey) GoString() string { return "[redacted]" }

// MarshalText returns a placeholder instead of the key.
func (DerivedKey) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// Marshal encodes the response.
func (r *KeyResponse) Marshal() []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, KeyResponseSize), uint32(r.Status))
	return append(fixed.Pad(b, responseHeaderSize), r.Key[:]...)
}

// ParseKeyResponse decodes MSG_KEY_RSP. A response that is not a success must hold no key.
func ParseKeyResponse(b []byte) (*KeyResponse, error) {
	if len(b) != KeyResponseSize {
		return nil, fmt.Errorf("parsing MSG_KEY_RSP: size is %d bytes, not %d", len(b), KeyResponseSize)
	}
	d := newDecoder(b)
	r := &KeyResponse{Status: Status(d.U32())}
	d.Zero(responseHeaderSize)
	r.Key = DerivedKey(d.Next(32))
	if d.Err != nil {
		return nil, fmt.Errorf("parsing MSG_KEY_RSP: %w", d.Err)
	}
	if r.Status != StatusSuccess && r.Key != (DerivedKey{}) {
		return nil, fmt.Errorf("parsing MSG_KEY_RSP: %s with a key", r.Status)
	}
	return r, nil
}
