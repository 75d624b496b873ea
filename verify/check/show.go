// SPDX-License-Identifier: Apache-2.0

package check

import (
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// maxShown is how many byte strings of a list are shown.
const maxShown = 4

// Hex shows byte strings in hexadecimal, as Expected and Actual have them: the first of them, and how many more there are.
func Hex(list [][]byte) string {
	var s []string
	for i, b := range list {
		if i == maxShown {
			s = append(s, "and "+strconv.Itoa(len(list)-maxShown)+" more")
			break
		}
		s = append(s, hex.EncodeToString(b))
	}
	return strings.Join(s, ", ")
}

// Stamp shows a time in UTC, to the second, as Expected and Actual have it: "none" for the zero time.
func Stamp(t time.Time) string {
	if t.IsZero() {
		return "none"
	}
	return t.UTC().Format(time.RFC3339)
}

// Within requires a time to be within the validity period of a chain. A certificate out of its period proves nothing, but
// shows nothing wrong either: the verdict is left open.
func (r *Record) Within(now, from, until time.Time) {
	expected, actual := Stamp(from)+" to "+Stamp(until), Stamp(now)
	switch {
	case now.Before(from):
		r.Undecided(Validity, CodeCertificateNotYet, expected, actual)
	case now.After(until):
		r.Undecided(Validity, CodeCertificateExpired, expected, actual)
	default:
		r.Pass(Validity, expected, actual)
	}
}
