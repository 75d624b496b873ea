// SPDX-License-Identifier: Apache-2.0

// Package hsmwire is what is said between the vault and the helper program that speaks to a hardware security module: one
// request on the helper's standard input, one response on its standard output, both JSON. The helper is a program of its
// own because modules are shared libraries in C, which the vault's process does not load.
//
// It trusts nothing that it reads and keeps nothing. The PIN goes by here, and never by arguments or the environment.
package hsmwire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// MaxSize bounds a message in bytes.
const MaxSize = 64 << 10

// Operation is what the module shall do.
type Operation string

// The operations, all with an AES-256 key that the module does not give away.
const (
	// Create makes the key, which must not be there yet.
	Create Operation = "create"
	// Encrypt and Decrypt are AES-GCM with an IV of 12 bytes in front and a tag of 16 behind.
	Encrypt Operation = "encrypt"
	Decrypt Operation = "decrypt"
)

// Request asks the helper for one operation.
type Request struct {
	// Module is the path of the module's shared library, Token the label of a token, and Key that of a key.
	Module    string    `json:"module"`
	Token     string    `json:"token"`
	Key       string    `json:"key"`
	PIN       []byte    `json:"pin"`
	Operation Operation `json:"operation"`
	Data      []byte    `json:"data,omitempty"`
	AAD       []byte    `json:"aad,omitempty"`
}

// Response is the helper's answer: Data, or an Error in words.
type Response struct {
	Data  []byte `json:"data,omitempty"`
	Error string `json:"error,omitempty"`
}

// Read reads one message that ends with the input.
func Read(r io.Reader, into any) error {
	b, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return fmt.Errorf("reading a message: %w", err)
	}
	defer clear(b)
	if len(b) > MaxSize {
		return errors.New("reading a message: it is too long")
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("reading a message: %w", err)
	}
	return nil
}
