// SPDX-License-Identifier: Apache-2.0

// Package anchor keeps the records of the last states of volumes, outside of the storage that holds them: in files of
// whoever opens them, or in counters of a vault. A volume's owner trusts such a place to give out the last record that it
// acknowledged, and that is all that it is trusted with: there is nothing secret in a record, and one that was made up opens
// no volume.
//
// A record only ever goes forward, whoever asks for what. The package never makes up a record for a volume that has none.
package anchor

import (
	"encoding/hex"
	"errors"
	"fmt"

	"cofferdam.dev/internal/volume/shadow"
)

var (
	_ shadow.Anchor = (*Dir)(nil)
	_ shadow.Anchor = (*Vault)(nil)
)

// ErrBackwards says that a record was to go back, or to another volume.
var ErrBackwards = errors.New("a record only goes forward")

// check says whether next may follow was.
func check(was, next shadow.Record) error {
	switch {
	case next.Volume == [16]byte{} || next.Generation == 0 || next.Digest == [32]byte{}:
		return fmt.Errorf("moving the anchor to a record that is none: %w", ErrBackwards)
	case was == shadow.Record{}:
		return nil
	case was.Volume != next.Volume || next.Generation <= was.Generation:
		return fmt.Errorf("moving the anchor of %x from generation %d to %d of %x: %w", was.Volume, was.Generation, next.Generation, next.Volume, ErrBackwards)
	}
	return nil
}

// digest reads a digest as it is written: 32 bytes in lower-case hexadecimal.
func digest(s string) (d [32]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) || hex.EncodeToString(b) != s {
		return d, fmt.Errorf("%.80q is no SHA-256 in lower-case hexadecimal", s)
	}
	copy(d[:], b)
	return d, nil
}
