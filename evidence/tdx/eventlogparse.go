// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
)

// ParseEventLog decodes a log. SHA-384 must be its only algorithm, every measured event must belong to an RTMR, and what
// follows the last event must be all ones or all zeros.
func ParseEventLog(b []byte) (*EventLog, error) {
	if len(b) > MaxEventLogSize {
		return nil, fmt.Errorf("parsing event log: size is %d bytes, more than %d", len(b), MaxEventLogSize)
	}
	l := &EventLog{}
	c := &cursor{b: b}
	l.SpecID = c.specID()
	for c.err == nil && !l.padding(c.rest()) {
		if len(l.Events) == MaxEvents {
			return nil, fmt.Errorf("parsing event log: there are more than %d events", MaxEvents)
		}
		e, err := c.event()
		if err != nil {
			return nil, fmt.Errorf("parsing event log: event %d: %w", len(l.Events)+1, err)
		}
		l.Events = append(l.Events, e)
	}
	if c.err != nil {
		return nil, fmt.Errorf("parsing event log: first event: %w", c.err)
	}
	return l, nil
}

// padding takes the rest of a log as padding if it is that.
func (l *EventLog) padding(rest []byte) bool {
	if len(rest) == 0 {
		return true
	}
	fill := rest[0]
	if fill != 0 && fill != 0xff {
		return false
	}
	if slices.ContainsFunc(rest, func(v byte) bool { return v != fill }) {
		return false
	}
	l.Padding, l.PaddingByte = len(rest), fill
	return true
}

// cursor reads hostile bytes front to back. It remembers the first error, and yields zeros after it.
type cursor struct {
	b   []byte
	off int
	err error
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *cursor) rest() []byte { return c.b[c.off:] }

func (c *cursor) bytes(what string, n uint32) []byte {
	if left := len(c.b) - c.off; uint64(n) > uint64(left) {
		c.fail("%s at offset %d has %d bytes, but %d are left", what, c.off, n, left)
	}
	if c.err != nil {
		return nil
	}
	b := c.b[c.off : c.off+int(n)]
	c.off += int(n)
	return b
}

func (c *cursor) u8(what string) uint8 {
	if b := c.bytes(what, 1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16(what string) uint16 {
	if b := c.bytes(what, 2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32(what string) uint32 {
	if b := c.bytes(what, 4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// specID reads the first event, which has the old form with one SHA-1 digest. TCG PFP, TCG_PCClientPCREvent and
// TCG_EfiSpecIdEvent.
func (c *cursor) specID() (s SpecID) {
	s.Index = c.u32("index")
	if t := EventType(c.u32("type")); t != EventNoAction {
		c.fail("type is %s, not %s", t, EventNoAction)
	}
	if d := c.bytes("digest", sha1Size); !bytes.Equal(d, make([]byte, sha1Size)) {
		c.fail("digest is %x, not zero", d)
	}
	size := c.u32("size")
	end := c.off + int(size)
	if sig := c.bytes("signature", uint32(len(specIDSignature))); string(sig) != specIDSignature {
		c.fail("signature is %q, not %q", sig, specIDSignature)
	}
	s.PlatformClass = c.u32("platform class")
	s.Minor, s.Major, s.Errata = c.u8("version"), c.u8("version"), c.u8("errata")
	s.UintnSize = c.u8("uintn size")
	if n := c.u32("number of algorithms"); n != 1 {
		c.fail("there are %d algorithms, not SHA-384 alone", n)
	}
	if id, n := c.u16("algorithm"), c.u16("digest size"); id != algSHA384 || n != digestSize {
		c.fail("algorithm is %#04x with digests of %d bytes, not SHA-384 (%#04x)", id, n, algSHA384)
	}
	s.VendorInfo = slices.Clone(c.bytes("vendor information", uint32(c.u8("size of vendor information"))))
	if c.off != end {
		c.fail("it ends at offset %d, but its size says %d", c.off, end)
	}
	return s
}

// event reads an event with its digest. TCG PFP, TCG_PCR_EVENT2.
func (c *cursor) event() (e Event, err error) {
	e.Index = c.u32("index")
	e.Type = EventType(c.u32("type"))
	if n := c.u32("number of digests"); n != 1 {
		c.fail("it has %d digests, not one", n)
	}
	if id := c.u16("algorithm"); id != algSHA384 {
		c.fail("its digest's algorithm is %#04x, not SHA-384 (%#04x)", id, algSHA384)
	}
	copy(e.Digest[:], c.bytes("digest", digestSize))
	e.Data = slices.Clone(c.bytes("data", c.u32("size of data")))
	if e.Measured() && (e.Index < 1 || e.Index > RTMRCount) {
		c.fail("register index is %d, not 1 to %d", e.Index, RTMRCount)
	}
	return e, c.err
}
