// SPDX-License-Identifier: Apache-2.0

package group

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"regexp"
)

// minPrefix is the shortest prefix of an ID that names something.
const minPrefix = 4

// A name is a directory name and, for containers, a log file's name: lower-case, no separators, no leading dot.
var validName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

// ValidateName checks the name of a group or container: 1 to 63 lower-case letters, digits and inner hyphens.
func ValidateName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("name %q is not 1 to 63 of a-z, 0-9 and inner hyphens", name)
	}
	return nil
}

// The two word lists of made-up names: what water does, and what keeps it out.
var (
	nameFirst = []string{
		"ample", "brisk", "calm", "deep", "early", "fair", "glassy", "high", "idle", "level", "mild", "neap",
		"north", "open", "placid", "quiet", "rapid", "salt", "still", "tidal", "under", "vast", "wide", "windy",
	}
	nameSecond = []string{
		"anchor", "basin", "berth", "bollard", "breakwater", "bulkhead", "buoy", "caisson", "causeway", "culvert",
		"dike", "dock", "fender", "groyne", "harbour", "jetty", "levee", "lock", "mole", "mooring", "pier", "quay",
		"sluice", "spillway", "strake", "trestle", "weir", "wharf",
	}
)

// randomName returns a readable name such as "calm-weir-3f"; the digits keep collisions rare.
func randomName() string {
	b := randomBytes(3)
	return nameFirst[int(b[0])%len(nameFirst)] + "-" + nameSecond[int(b[1])%len(nameSecond)] + "-" + hex.EncodeToString(b[2:])
}

// newID returns n random bytes in hexadecimal.
func newID(n int) string { return hex.EncodeToString(randomBytes(n)) }

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: crypto/rand aborts the program instead
	return b
}
