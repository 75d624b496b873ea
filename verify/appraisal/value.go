// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/verify/amd"
)

// The byte strings of a policy are hexadecimal, each of a fixed size.
type (
	// Hash is a SHA-256, or an MRENCLAVE or MRSIGNER.
	Hash [32]byte
	// Digest is a SHA-384: a launch digest, an MRTD, a register.
	Digest [48]byte
	// Identifier has 16 bytes: a family, an image, a platform.
	Identifier [16]byte
	// Model is an FMSPC.
	Model [6]byte
)

// ReportData are 1 to 64 bytes of report data, in hexadecimal.
type ReportData []byte

// Blob is a file's content, in base64.
type Blob []byte

// Chip is a chip ID as amd.ParseChipID reads it.
type Chip amd.ChipID

// Word is a set of bits, in hexadecimal with 0x before it.
type Word uint64

// ABI is a version of the SNP firmware's ABI, MAJOR.MINOR.
type ABI amd.ABI

// Duration is a whole number of days, hours, minutes or seconds, such as 30d.
type Duration time.Duration

// form is what a JSON Schema says about a scalar: that it is a string of a pattern, or a number.
type form struct {
	pattern string
	integer bool // may be written as a number, too
}

// scalar is a value that is read from one text.
type scalar interface{ form() form }

func hexForm(size int) form { return form{pattern: fmt.Sprintf("^[0-9a-f]{%d}$", 2*size)} }

func (Hash) form() form       { return hexForm(len(Hash{})) }
func (Digest) form() form     { return hexForm(len(Digest{})) }
func (Identifier) form() form { return hexForm(len(Identifier{})) }
func (Model) form() form      { return hexForm(len(Model{})) }
func (ReportData) form() form { return form{pattern: "^([0-9a-f]{2}){1,64}$"} }
func (Blob) form() form       { return form{pattern: "^[A-Za-z0-9+/]+={0,2}$"} }
func (Chip) form() form       { return form{pattern: "^([0-9a-f]{16}|[0-9a-f]{128})$"} }
func (Word) form() form       { return form{pattern: "^0x[0-9a-f]{1,16}$", integer: true} }
func (ABI) form() form        { return form{pattern: `^[0-9]{1,3}\.[0-9]{1,3}$`} }
func (Duration) form() form   { return form{pattern: "^[1-9][0-9]{0,8}[dhms]$"} }

// UnmarshalText reads 64 hexadecimal digits.
func (h *Hash) UnmarshalText(b []byte) error { return readHex(h[:], b) }

// UnmarshalText reads 96 hexadecimal digits.
func (d *Digest) UnmarshalText(b []byte) error { return readHex(d[:], b) }

// UnmarshalText reads 32 hexadecimal digits.
func (i *Identifier) UnmarshalText(b []byte) error { return readHex(i[:], b) }

// UnmarshalText reads 12 hexadecimal digits.
func (m *Model) UnmarshalText(b []byte) error { return readHex(m[:], b) }

// MarshalText writes hexadecimal digits.
func (h Hash) MarshalText() ([]byte, error) { return writeHex(h[:]), nil }

// MarshalText writes hexadecimal digits.
func (d Digest) MarshalText() ([]byte, error) { return writeHex(d[:]), nil }

// MarshalText writes hexadecimal digits.
func (i Identifier) MarshalText() ([]byte, error) { return writeHex(i[:]), nil }

// MarshalText writes hexadecimal digits.
func (m Model) MarshalText() ([]byte, error) { return writeHex(m[:]), nil }

// UnmarshalText reads 2 to 128 hexadecimal digits.
func (r *ReportData) UnmarshalText(b []byte) error {
	if len(b) < 2 || len(b) > 128 || len(b)%2 != 0 {
		return fmt.Errorf("it has %d hexadecimal digits, not an even number from 2 to 128", len(b))
	}
	*r = make([]byte, len(b)/2)
	return readHex(*r, b)
}

// MarshalText writes hexadecimal digits.
func (r ReportData) MarshalText() ([]byte, error) { return writeHex(r), nil }

func readHex(dst, text []byte) error {
	if len(text) != 2*len(dst) {
		return fmt.Errorf("it has %d characters, not %d hexadecimal digits", len(text), 2*len(dst))
	}
	if _, err := hex.Decode(dst, text); err != nil || strings.ToLower(string(text)) != string(text) {
		return fmt.Errorf("it is not %d hexadecimal digits in lower case", 2*len(dst))
	}
	return nil
}

func writeHex(b []byte) []byte { return hex.AppendEncode(nil, b) }

// UnmarshalText reads base64 with padding and without line breaks.
func (f *Blob) UnmarshalText(b []byte) error {
	data, err := base64.StdEncoding.Strict().AppendDecode(nil, b)
	if err != nil || len(data) == 0 || base64.StdEncoding.EncodedLen(len(data)) != len(b) {
		return errors.New("it is not base64")
	}
	*f = data
	return nil
}

// MarshalText writes base64.
func (f Blob) MarshalText() ([]byte, error) { return base64.StdEncoding.AppendEncode(nil, f), nil }

// UnmarshalText reads 128 hexadecimal digits, or 16 for Turin.
func (c *Chip) UnmarshalText(b []byte) error {
	id, err := amd.ParseChipID(string(b))
	*c = Chip(id)
	return err
}

// MarshalText writes hexadecimal digits.
func (c Chip) MarshalText() ([]byte, error) { return []byte(amd.ChipID(c).String()), nil }

// UnmarshalText reads a number with 0x before it, or a decimal one.
func (w *Word) UnmarshalText(b []byte) error {
	n, err := readNumber(string(b), 64)
	*w = Word(n)
	return err
}

// MarshalText writes a hexadecimal number.
func (w Word) MarshalText() ([]byte, error) { return fmt.Appendf(nil, "%#x", uint64(w)), nil }

var numberForm = regexp.MustCompile(`^(0|[1-9][0-9]*|0x[0-9a-f]+)$`)

func readNumber(s string, bits int) (uint64, error) {
	n, err := strconv.ParseUint(s, 0, bits)
	if err != nil || !numberForm.MatchString(s) {
		return 0, fmt.Errorf("%q is no whole number of at most %d bits", s, bits)
	}
	return n, nil
}

// UnmarshalText reads MAJOR.MINOR.
func (v *ABI) UnmarshalText(b []byte) error {
	major, minor, _ := strings.Cut(string(b), ".")
	high, err1 := strconv.ParseUint(major, 10, 8)
	low, err2 := strconv.ParseUint(minor, 10, 8)
	if err1 != nil || err2 != nil {
		return fmt.Errorf("%q is no version of the form MAJOR.MINOR", b)
	}
	*v = ABI{Major: uint8(high), Minor: uint8(low)}
	return nil
}

// MarshalText writes MAJOR.MINOR.
func (v ABI) MarshalText() ([]byte, error) { return []byte(amd.ABI(v).String()), nil }

// durationUnits are in falling order.
var durationUnits = []struct {
	name byte
	size time.Duration
}{{'d', 24 * time.Hour}, {'h', time.Hour}, {'m', time.Minute}, {'s', time.Second}}

// maxDuration is some hundred years: no age or grace makes sense beyond.
const maxDuration = 100 * 366 * 24 * time.Hour

// UnmarshalText reads a number and a unit.
func (d *Duration) UnmarshalText(b []byte) error {
	bad := fmt.Errorf("%q is no duration: a whole number with d, h, m or s behind it, such as 30d", b)
	if len(b) < 2 || b[0] == '0' {
		return bad
	}
	i := slices.IndexFunc(durationUnits, func(u struct {
		name byte
		size time.Duration
	}) bool {
		return u.name == b[len(b)-1]
	})
	n, err := strconv.ParseUint(string(b[:len(b)-1]), 10, 31)
	if err != nil || i < 0 || n > uint64(maxDuration/durationUnits[i].size) {
		return bad
	}
	*d = Duration(time.Duration(n) * durationUnits[i].size)
	return nil
}

// MarshalText writes the duration in the largest unit that fits.
func (d Duration) MarshalText() ([]byte, error) {
	for _, u := range durationUnits {
		if time.Duration(d)%u.size == 0 {
			return fmt.Appendf(nil, "%d%c", time.Duration(d)/u.size, u.name), nil
		}
	}
	return nil, fmt.Errorf("duration %s is no whole number of seconds", time.Duration(d))
}
