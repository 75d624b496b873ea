// SPDX-License-Identifier: Apache-2.0

// Package audit is a log that can not be changed afterwards without anybody noticing: each line holds the hash of the line
// before it, and signed checkpoints fix the chain up to where they stand. Anybody who has the public key can check a copy
// of the log offline.
//
// What the chain shows is that lines between two checkpoints were not changed, removed or put in, also not by whoever
// holds the disk. Lines after the last checkpoint, and the removal of a whole end of the log, can be noticed only by who
// keeps a later receipt or checkpoint: every append returns a receipt for that purpose.
//
// An append returns once the line is on disk. A log that can not be written returns errors, and the caller is meant to
// refuse what it could not record. The package never decides what goes into an event: no secret belongs there.
package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Schema is the schema that the first line of each file names.
const Schema = "cofferdam.dev/audit/v1"

// MaxLineSize bounds a line in bytes, without its end.
const MaxLineSize = 64 << 10

// Kinds of lines that the log makes itself.
const (
	kindOpen       = reserved + "open"
	kindCheckpoint = reserved + "checkpoint"

	reserved = "audit."
)

// Entry is one line of a log.
type Entry struct {
	// Sequence counts the lines of an instance from 1, across its files.
	Sequence uint64 `json:"seq"`
	// Time is the writer's clock.
	Time time.Time `json:"time"`
	// Instance names the writer. Each instance has a chain of its own.
	Instance string `json:"instance"`
	// Kind says what Event is.
	Kind string `json:"kind"`
	// Event is what happened, as compact JSON.
	Event json.RawMessage `json:"event"`
	// Previous is the SHA-256 of the line before, in hexadecimal; of the first line, zeros.
	Previous string `json:"prev"`
}

// opening is the event of the first line of a file.
type opening struct {
	Schema string `json:"schema"`
}

// checkpoint is the event of a checkpoint. Signature is over signedBytes: ECDSA with SHA-256, in ASN.1 DER.
type checkpoint struct {
	// KeyID is the SHA-256 of the public key's SubjectPublicKeyInfo in hexadecimal.
	KeyID     string `json:"kid"`
	Signature []byte `json:"signature"`
}

// signedBytes is what a checkpoint signs: the instance, its own sequence number, and the hash of the line before it.
func signedBytes(instance string, sequence uint64, previous string) []byte {
	return fmt.Appendf(nil, "%s\x00%s\x00%d\x00%s", Schema, instance, sequence, previous)
}

// Receipt names one line. It is a commitment to the whole log before it.
type Receipt struct {
	Instance string `json:"instance"`
	Sequence uint64 `json:"seq"`
	// Hash is the SHA-256 of the line in hexadecimal.
	Hash string `json:"hash"`
}

func hashLine(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}

// encode returns the one form in which a line is written, without its end.
func (e *Entry) encode() ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encoding audit entry: %w", err)
	}
	if len(b) > MaxLineSize {
		return nil, fmt.Errorf("audit entry of kind %q has %d bytes, more than %d", e.Kind, len(b), MaxLineSize)
	}
	return b, nil
}

// parseEntry reads a line and requires it to be in the form in which it was written: two readers never see two entries.
func parseEntry(line []byte) (*Entry, error) {
	if len(line) > MaxLineSize {
		return nil, fmt.Errorf("it has more than %d bytes", MaxLineSize)
	}
	var e Entry
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&e); err != nil {
		return nil, fmt.Errorf("it is no entry: %w", err)
	}
	again, err := e.encode()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(again, line) {
		return nil, fmt.Errorf("it is not in the form in which entries are written")
	}
	return &e, nil
}
