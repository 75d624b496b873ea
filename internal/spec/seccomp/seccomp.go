// SPDX-License-Identifier: Apache-2.0

// Package seccomp hashes system call filters as policies name them: SHA-256 over the profile in the form in which it
// reaches the guest, that of the OCI runtime specification, as JSON without white space.
//
// It trusts nothing that it reads and decides nothing about what a filter allows.
package seccomp

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxProfile bounds a profile.
const maxProfile = 1 << 20

// FromBase64 reads a profile in base64, and returns it as Normal does, with its hash.
func FromBase64(text string) (profile []byte, hash string, err error) {
	if len(text) > 2*maxProfile {
		return nil, "", errors.New("seccomp profile is too long")
	}
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, "", errors.New("seccomp profile is no base64")
	}
	if profile, err = Normal(data); err != nil {
		return nil, "", err
	}
	return profile, sum(profile), nil
}

// Hash returns the hash of a profile in hexadecimal, over what Normal returns.
func Hash(profile []byte) (string, error) {
	text, err := Normal(profile)
	if err != nil {
		return "", err
	}
	return sum(text), nil
}

func sum(text []byte) string {
	h := sha256.Sum256(text)
	return hex.EncodeToString(h[:])
}

// Normal returns a profile as it reaches the guest, whose SHA-256 is its hash. Keys that the specification does not know
// are left out, as the platform leaves them out on the way to the guest.
func Normal(profile []byte) ([]byte, error) {
	if len(profile) > maxProfile {
		return nil, errors.New("seccomp profile is too long")
	}
	var p specs.LinuxSeccomp
	d := json.NewDecoder(bytes.NewReader(profile))
	if err := d.Decode(&p); err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	if d.More() {
		return nil, errors.New("seccomp profile: something follows the profile")
	}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	return text, nil
}
