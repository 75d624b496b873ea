// SPDX-License-Identifier: Apache-2.0

package simsp

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"cofferdam.dev/internal/wholefile"
)

// machineFile holds the machine's state beside the root. It is read again for each request, so that running guests see
// what their host does.
const machineFile = "machine.json"

// machineSchema is the schema of that file.
const machineSchema = "cofferdam.dev/simulated-machine/v1"

const maxMachineFile = 16 << 10

// machineDocument is the file's form.
type machineDocument struct {
	Schema string `json:"schema"`
	Machine
}

// LoadMachine returns the state of the machine in dir: DefaultMachine where nothing was ever changed. Like the keys, the
// file must be its owner's alone.
func LoadMachine(dir string) (Machine, error) {
	path := filepath.Join(dir, machineFile)
	b, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		return DefaultMachine(), nil
	}
	if err != nil {
		return Machine{}, fmt.Errorf("loading simulated machine: %w", err)
	}
	m, err := parseMachine(b)
	if err != nil {
		return Machine{}, fmt.Errorf("loading simulated machine: %s: %w", path, err)
	}
	return m, nil
}

func parseMachine(b []byte) (Machine, error) {
	if len(b) > maxMachineFile {
		return Machine{}, fmt.Errorf("size is %d bytes, more than %d", len(b), maxMachineFile)
	}
	var doc machineDocument
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&doc); err != nil {
		return Machine{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Machine{}, errors.New("something follows the JSON object")
	}
	if doc.Schema != machineSchema {
		return Machine{}, fmt.Errorf("schema is %q, not %q", doc.Schema, machineSchema)
	}
	return doc.Machine, doc.Validate()
}

// ChangeMachine changes the state of the machine in dir and returns the new one. Changes are made one after the other,
// each whole or not at all; when change returns an error, or leaves a state that no machine can be in, nothing is changed.
func ChangeMachine(dir string, change func(*Machine) error) (Machine, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Machine{}, fmt.Errorf("changing simulated machine: %w", err)
	}
	unlock, err := lock(filepath.Join(dir, lockFile))
	if err != nil {
		return Machine{}, fmt.Errorf("changing simulated machine: %w", err)
	}
	defer unlock()
	m, err := LoadMachine(dir)
	if err != nil {
		return Machine{}, err
	}
	if err := change(&m); err != nil {
		return Machine{}, fmt.Errorf("changing simulated machine: %w", err)
	}
	if err := m.Validate(); err != nil {
		return Machine{}, fmt.Errorf("changing simulated machine: %w", err)
	}
	b, err := json.MarshalIndent(machineDocument{Schema: machineSchema, Machine: m}, "", "  ")
	if err != nil {
		return Machine{}, fmt.Errorf("changing simulated machine: %w", err)
	}
	if err := wholefile.Replace(filepath.Join(dir, machineFile), append(b, '\n'), 0o600); err != nil {
		return Machine{}, fmt.Errorf("changing simulated machine: %w", err)
	}
	return m, nil
}
