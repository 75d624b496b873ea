// SPDX-License-Identifier: Apache-2.0

package hcl

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Constants of the TPM 2.0 Library, part 2 (structures). All numbers of its structures are big-endian.
const (
	// AlgSHA256 is TPM_ALG_SHA256 (6.3).
	AlgSHA256 = 0x000b

	generatedValue = 0xff544347 // TPM_GENERATED_VALUE (6.2): made by a TPM, not given to it
	tagQuote       = 0x8018     // TPM_ST_ATTEST_QUOTE (6.9)
	algRSASSA      = 0x0014     // TPM_ALG_RSASSA (6.3)

	maxSelections = 8
	maxSelectSize = 4  // bytes of a PCR bitmap
	maxDigest     = 64 // the largest hash
	maxData       = 66 // TPM2B_DATA: room for a hash and its algorithm (11.2.3)
)

// PCRCount is the number of platform configuration registers of a PC client's bank.
const PCRCount = 24

// Attest is a TPMS_ATTEST structure (10.12.12) that tells of a quote.
type Attest struct {
	// QualifiedSigner is the qualified name of the key that signed.
	QualifiedSigner []byte
	// ExtraData is what the caller asked to have signed with it; empty for nothing.
	ExtraData []byte
	// Clock is the TPM's time in milliseconds; Resets and Restarts count its starts. Safe tells whether the clock is known
	// not to have gone back.
	Clock            uint64
	Resets, Restarts uint32
	Safe             bool
	// Firmware is the TPM's firmware version.
	Firmware uint64
	// Selections are the PCRs that were quoted, by bank.
	Selections []Selection
	// PCRDigest is the hash, by the key's algorithm, of the quoted values one after the other.
	PCRDigest []byte
}

// Selection is a choice of PCRs of one bank (TPMS_PCR_SELECTION, 10.6.2).
type Selection struct {
	// Algorithm is the bank's hash.
	Algorithm uint16
	// PCRs are the indices, ascending.
	PCRs []int
}

// ParseAttest decodes a TPMS_ATTEST of a quote, to its last byte.
func ParseAttest(b []byte) (*Attest, error) {
	d := decoder{b: b}
	if v := d.u32(); v != generatedValue && d.err == nil {
		d.err = fmt.Errorf("magic is %#08x, not %#08x", v, uint32(generatedValue))
	}
	if v := d.u16(); v != tagQuote && d.err == nil {
		d.err = fmt.Errorf("type is %#04x, not %#04x: it is no quote", v, tagQuote)
	}
	a := &Attest{QualifiedSigner: d.sized("qualified signer", maxData), ExtraData: d.sized("extra data", maxData)}
	a.Clock, a.Resets, a.Restarts = d.u64(), d.u32(), d.u32()
	switch v := d.take(1); {
	case d.err != nil:
	case v[0] > 1:
		d.err = fmt.Errorf("safe is %d, not 0 or 1", v[0])
	default:
		a.Safe = v[0] == 1
	}
	a.Firmware = d.u64()
	a.Selections = d.selections()
	a.PCRDigest = d.sized("PCR digest", maxDigest)
	if d.err == nil && len(d.b) != 0 {
		d.err = fmt.Errorf("%d bytes follow", len(d.b))
	}
	if d.err != nil {
		return nil, fmt.Errorf("parsing TPM quote: %w", d.err)
	}
	return a, nil
}

// decoder reads front to back and remembers the first error, after which it returns zeros.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err == nil && n > len(d.b) {
		d.err = fmt.Errorf("it ends %d bytes too early", n-len(d.b))
	}
	if d.err != nil {
		return make([]byte, min(n, 8))
	}
	v := d.b[:n:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) u32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) u64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

// sized reads a TPM2B structure: a length and so many bytes.
func (d *decoder) sized(name string, limit int) []byte {
	n := int(d.u16())
	if d.err == nil && n > limit {
		d.err = fmt.Errorf("%s has %d bytes, at most %d are allowed", name, n, limit)
	}
	if d.err != nil {
		return nil
	}
	return d.take(n)
}

// selections reads a TPML_PCR_SELECTION (10.9.7).
func (d *decoder) selections() []Selection {
	n := d.u32()
	if d.err == nil && n > maxSelections {
		d.err = fmt.Errorf("there are %d PCR selections, at most %d are allowed", n, maxSelections)
	}
	var list []Selection
	for range n {
		s := Selection{Algorithm: d.u16()}
		size := int(d.take(1)[0])
		if d.err == nil && (size == 0 || size > maxSelectSize) {
			d.err = fmt.Errorf("a PCR selection has %d bytes, not 1 to %d", size, maxSelectSize)
		}
		if d.err != nil {
			return nil
		}
		for i, v := range d.take(size) {
			for bit := range 8 {
				if v>>bit&1 == 1 {
					s.PCRs = append(s.PCRs, 8*i+bit)
				}
			}
		}
		list = append(list, s)
	}
	return list
}

// ParseSignature returns the bytes of an RSASSA-PKCS1-v1_5 signature with SHA-256, given alone or as a TPMT_SIGNATURE
// (11.3.4). keySize is the size of the key's modulus in bytes.
func ParseSignature(b []byte, keySize int) ([]byte, error) {
	if len(b) == keySize {
		return b, nil
	}
	d := decoder{b: b}
	scheme, hash := d.u16(), d.u16()
	if d.err == nil && (scheme != algRSASSA || hash != AlgSHA256) {
		d.err = fmt.Errorf("scheme is %#04x with hash %#04x, not RSASSA (%#04x) with SHA-256 (%#04x)", scheme, hash, algRSASSA, AlgSHA256)
	}
	sig := d.sized("signature", keySize)
	if d.err == nil && (len(d.b) != 0 || len(sig) != keySize) {
		d.err = errors.New("its size is not that of the key")
	}
	if d.err != nil {
		return nil, fmt.Errorf("parsing TPM signature: %w", d.err)
	}
	return sig, nil
}
