// SPDX-License-Identifier: Apache-2.0

package luks2

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"cofferdam.dev/internal/strictjson"
)

// pinSchema names the form of a pin.
const pinSchema = "cofferdam.dev/luks2-pin/v1"

// Pin is what is trusted of a header: all that decides how data are decrypted, and with which key. It belongs into a
// volume's descriptor. A MAC under a key that only the volume key gives binds its fields, so that whoever has the volume key
// finds a changed pin, also when the descriptor came from the storage. What no pin can tell is that there was a newer one.
//
// The zero value refuses every header.
type Pin struct {
	UUID       string
	Cipher     string
	KeySize    int    // in bytes
	SectorSize int    // in bytes
	Offset     int64  // of the data, in bytes
	Size       int64  // of the data, in bytes
	Sequence   uint64 // the least number that the header may have
	MAC        []byte
}

// Pin fixes the header for a key, which must be the volume's: its key slots may change later on, nothing else.
func (h *Header) Pin(key VolumeKey) (Pin, error) {
	err := h.checkKey(key)
	p := h.facts()
	p.KeySize = len(key.b)
	if err == nil {
		p.MAC, err = p.mac(key)
	}
	if err != nil {
		return Pin{}, fmt.Errorf("pinning a volume: %w", err)
	}
	return p, nil
}

// facts returns a pin of the header without key size and MACs.
func (h *Header) facts() Pin {
	s := h.m.Segments[0]
	return Pin{
		UUID: h.b.uuid, Cipher: s.Encryption, SectorSize: s.SectorSize, Offset: int64(s.Offset), Size: h.dataSize(), Sequence: h.b.sequence,
	}
}

func (h *Header) mac(key VolumeKey) ([]byte, error) {
	text, err := h.canonical()
	if err != nil {
		return nil, err
	}
	return key.mac("header", text)
}

// mac is over the fields in an order and form of their own, one a line. None of them holds a line break.
func (p Pin) mac(key VolumeKey) ([]byte, error) {
	return key.mac("pin", fmt.Appendf(nil, "%s\n%s\n%s\n%d\n%d\n%d\n%d\n%d\n", pinSchema, p.UUID, p.Cipher, p.KeySize, p.SectorSize, p.Offset, p.Size,
		p.Sequence))
}

// Verify holds a header against a pin and a key. A header that passes is used as the one was that was pinned: same cipher,
// same key, same place and size of the data, not older. The error wraps ErrPin or ErrKey.
func (h *Header) Verify(p Pin, key VolumeKey) error {
	if err := h.verify(p, key); err != nil {
		return fmt.Errorf("verifying a volume: %w", err)
	}
	return nil
}

// VerifyResizable is Verify of a header that is about to get another size: the one that it has may be any, as an interrupted
// Resize leaves it.
func (h *Header) VerifyResizable(p Pin, key VolumeKey) error {
	own := *h
	if s := own.m.Segments[0]; h.dataSize() != p.Size && p.Size > 0 {
		own.m.Segments = maps.Clone(h.m.Segments)
		s.Size = extent(p.Size)
		own.m.Segments[0] = s
	}
	return own.Verify(p, key)
}

func (h *Header) verify(p Pin, key VolumeKey) error {
	want, err := p.mac(key)
	if err != nil {
		return err
	}
	if len(key.b) != p.KeySize || !hmac.Equal(want, p.MAC) {
		return fmt.Errorf("%w: it was not made with this key, or was changed since", ErrPin)
	}
	f := h.facts()
	for _, c := range []struct {
		what             string
		expected, actual any
	}{
		{"UUID", p.UUID, f.UUID},
		{"cipher", p.Cipher, f.Cipher},
		{"sector size", p.SectorSize, f.SectorSize},
		{"offset of the data", p.Offset, f.Offset},
		{"size of the data", p.Size, f.Size},
	} {
		if c.expected != c.actual {
			return fmt.Errorf("%w: %s: expected %v, got %v", ErrPin, c.what, c.expected, c.actual)
		}
	}
	if f.Sequence < p.Sequence {
		return fmt.Errorf("%w: sequence number: expected at least %d, got %d: an old header was put back", ErrPin, p.Sequence, f.Sequence)
	}
	// Last, so that nothing of a header that is not the pinned one decides how much work this is.
	return h.checkKey(key)
}

// wirePin is a pin as JSON. Sizes are numbers below 2⁶⁰, which not all readers of JSON hold exactly: they are strings.
type wirePin struct {
	Schema     string  `json:"schema"`
	UUID       string  `json:"uuid"`
	Cipher     string  `json:"cipher"`
	KeySize    int     `json:"keySize"`
	SectorSize int     `json:"sectorSize"`
	Offset     decimal `json:"offset"`
	Size       decimal `json:"size"`
	Sequence   decimal `json:"sequence"`
	MAC        []byte  `json:"mac"`
}

// MarshalJSON returns the pin for a volume's descriptor. There is nothing secret in it.
func (p Pin) MarshalJSON() ([]byte, error) {
	return json.Marshal(wirePin{
		pinSchema, p.UUID, p.Cipher, p.KeySize, p.SectorSize, decimal(p.Offset), decimal(p.Size), decimal(p.Sequence), p.MAC,
	})
}

// UnmarshalJSON reads a pin strictly. The error wraps ErrPin.
func (p *Pin) UnmarshalJSON(b []byte) error {
	o, err := strictjson.Parse(b)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPin, err)
	}
	var r parser
	r.only("pin", o, "schema", "uuid", "cipher", "keySize", "sectorSize", "offset", "size", "sequence", "mac")
	if s := r.text("pin", o, "schema"); r.err == nil && s != pinSchema {
		r.fail("pin", fmt.Errorf("schema: expected %q, got %.64q", pinSchema, s))
	}
	read := Pin{
		UUID: r.text("pin", o, "uuid"), Cipher: r.text("pin", o, "cipher"), KeySize: r.integer("pin", o, "keySize"),
		SectorSize: r.integer("pin", o, "sectorSize"), Offset: int64(r.number("pin", o, "offset")), Size: int64(r.number("pin", o, "size")),
		Sequence: uint64(r.number("pin", o, "sequence")), MAC: r.bytes("pin", o, "mac"),
	}
	if len(read.MAC) != sha256.Size || !validUUID(read.UUID) || read.Cipher != Cipher || !validSector(read.SectorSize) {
		r.fail("pin", fmt.Errorf("UUID, cipher, sector size or MAC are not such"))
	}
	if r.err != nil {
		return fmt.Errorf("%w: %w", ErrPin, r.err)
	}
	*p = read
	return nil
}

// String shows a pin in one line.
func (p Pin) String() string {
	return strings.Join([]string{p.UUID, p.Cipher, fmt.Sprint(8 * p.KeySize), base64.StdEncoding.EncodeToString(p.MAC)}, " ")
}
