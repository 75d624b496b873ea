// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of an event log.
const (
	// MaxEventLogSize is the largest log that is parsed, in bytes. Firmware reserves 64 KiB to 1 MiB.
	MaxEventLogSize = 4 << 20
	// MaxEvents is the largest number of events that is parsed.
	MaxEvents = 1 << 14
)

// Constants of the first event. TCG PC Client Platform Firmware Profile, section "Specification ID Version Event".
const (
	specIDSignature = "Spec ID Event03\x00"
	algSHA384       = 0x000c // TCG algorithm registry
	sha1Size        = 20
	digestSize      = sha512.Size384
)

// EventLog is a log of measured events for confidential machines (CCEL). Nothing signs it: it tells how the registers came
// to be what a quote says, if Replay leads to them.
type EventLog struct {
	// SpecID is the first event, which says how the others are written.
	SpecID SpecID
	// Events are the others, in the order of the log.
	Events []Event
	// Padding is the number of bytes behind the last event, all PaddingByte: firmware fills its buffer.
	Padding int
	// PaddingByte is 0xff or 0.
	PaddingByte byte
}

// SpecID is the event that begins a log.
type SpecID struct {
	// Index is a register, although the event is not measured: 0 or 1 are seen.
	Index uint32
	// PlatformClass is 0 for clients and 1 for servers.
	PlatformClass uint32
	// Minor, Major and Errata are the version of the specification.
	Minor, Major, Errata uint8
	// UintnSize is the size of addresses in events: 1 for 32 bits, 2 for 64.
	UintnSize uint8
	// VendorInfo is the firmware vendor's own.
	VendorInfo []byte
}

// Event is one event.
type Event struct {
	// Index is the register: 1 to 4 stand for RTMR 0 to 3. Events that are not measured may have others.
	Index uint32
	// Type says what was measured.
	Type EventType
	// Digest is the SHA-384 digest that the register was extended with.
	Digest [48]byte
	// Data describes the event. It is bound to the register only where DataBound says so.
	Data []byte
}

// Measured reports whether the event was extended into a register. Events that were not are the log's mere word.
func (e *Event) Measured() bool { return e.Type != EventNoAction }

// RTMR returns the register that a measured event was extended into, 0 to 3. UEFI 2.10, section "Virtual Firmware (VM)
// Confidential Computing Measurement", table of the mapping for Intel TDX.
func (e *Event) RTMR() int { return int(e.Index) - 1 }

// DataBound reports whether the event is measured and its digest is that of its data. For other events the digest is that
// of something that is not in the log, such as a program, and the data may say anything.
func (e *Event) DataBound() bool { return e.Measured() && sha512.Sum384(e.Data) == e.Digest }

// Marshal encodes the log. For a parsed log it returns exactly the bytes that were read. It returns an error for a log
// that ParseEventLog would read otherwise.
func (l *EventLog) Marshal() ([]byte, error) {
	le := binary.LittleEndian
	s := l.SpecID
	if len(s.VendorInfo) > 0xff || l.Padding < 0 || l.Padding > MaxEventLogSize {
		return nil, errors.New("encoding event log: vendor information or padding has no possible size")
	}
	b := le.AppendUint32(nil, s.Index)
	b = le.AppendUint32(b, uint32(EventNoAction))
	b = append(b, make([]byte, sha1Size)...)
	b = le.AppendUint32(b, uint32(len(specIDSignature)+4+4+4+4+1+len(s.VendorInfo)))
	b = append(b, specIDSignature...)
	b = le.AppendUint32(b, s.PlatformClass)
	b = append(b, s.Minor, s.Major, s.Errata, s.UintnSize)
	b = le.AppendUint32(b, 1)
	b = le.AppendUint16(b, algSHA384)
	b = le.AppendUint16(b, digestSize)
	b = append(append(b, byte(len(s.VendorInfo))), s.VendorInfo...)
	for _, e := range l.Events {
		b = le.AppendUint32(b, e.Index)
		b = le.AppendUint32(b, uint32(e.Type))
		b = le.AppendUint32(b, 1)
		b = le.AppendUint16(b, algSHA384)
		b = append(b, e.Digest[:]...)
		b = le.AppendUint32(b, uint32(len(e.Data)))
		b = append(b, e.Data...)
	}
	b = append(b, bytes.Repeat([]byte{l.PaddingByte}, l.Padding)...)
	again, err := ParseEventLog(b)
	if err != nil {
		return nil, fmt.Errorf("encoding event log: %w", err)
	}
	if len(again.Events) != len(l.Events) || again.Padding != l.Padding {
		return nil, errors.New("encoding event log: its end is ambiguous")
	}
	return b, nil
}

// Replay returns the registers that the measured events lead to, beginning with zeros: each digest is appended to the
// register's value, and the SHA-384 digest of both is the new value. TDX module ABI, TDG.MR.RTMR.EXTEND.
func (l *EventLog) Replay() (rtmr [RTMRCount][48]byte) {
	for _, e := range l.Events {
		if i := e.RTMR(); e.Measured() && i >= 0 && i < RTMRCount {
			rtmr[i] = sha512.Sum384(append(rtmr[i][:], e.Digest[:]...))
		}
	}
	return rtmr
}

// Mismatches returns the numbers of the registers to which the log does not lead, 0 to 3.
func (l *EventLog) Mismatches(want [RTMRCount][48]byte) []int {
	var differ []int
	for i, got := range l.Replay() {
		if got != want[i] {
			differ = append(differ, i)
		}
	}
	return differ
}
