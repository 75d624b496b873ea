// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"

	"cofferdam.dev/internal/strictjson"
	"cofferdam.dev/internal/wholefile"
)

// fileSchema names the form of a root file.
const fileSchema = "cofferdam.dev/vault-root/v1"

// maxFile bounds a root file in bytes.
const maxFile = 64 << 10

// document is a root file. Sealed is the root key under the key that Kind says; everything else is bound to it.
type document struct {
	Schema string     `json:"schema"`
	Kind   string     `json:"kind"`
	Argon  *argonCost `json:"argon2id,omitempty"`
	Split  *split     `json:"split,omitempty"`
	TEE    *teeSeal   `json:"tee,omitempty"`
	HSM    *hsmSeal   `json:"hsm,omitempty"`
	Sealed []byte     `json:"sealed"`
}

// aad binds the fields of the file to the sealed root key.
func (d document) aad() ([]byte, error) {
	d.Sealed = nil
	return json.Marshal(d)
}

// seal puts the root key into the document under key.
func (d *document) seal(key, root *Secret) error {
	box, err := NewBox(key)
	if err != nil {
		return err
	}
	aad, err := d.aad()
	if err != nil {
		return err
	}
	d.Sealed = box.Seal(root.Expose(), aad)
	return nil
}

// open returns the root of the document under key.
func (d *document) open(key *Secret) (*Memory, error) {
	root, err := d.openKey(key)
	if err != nil {
		return nil, err
	}
	defer root.Destroy()
	return NewMemory(root, d.Kind)
}

func (d *document) openKey(key *Secret) (*Secret, error) {
	box, err := NewBox(key)
	if err != nil {
		return nil, err
	}
	aad, err := d.aad()
	if err != nil {
		return nil, err
	}
	root, err := box.Open(d.Sealed, aad)
	if err != nil {
		return nil, err
	}
	return NewSecret(root), nil
}

// create writes a file that is not there yet: a root that is overwritten is a vault that is lost.
func (d *document) create(path string) error { return d.write(path, wholefile.Create) }

func (d *document) replace(path string) error { return d.write(path, wholefile.Replace) }

func (d *document) write(path string, put func(string, []byte, fs.FileMode) error) error {
	b, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return err
	}
	return put(path, append(b, '\n'), 0o600)
}

func readDocument(path, kind string) (*document, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read only
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("it has more than %d bytes", maxFile)
	}
	if _, err := strictjson.Parse(b); err != nil {
		return nil, err
	}
	var d document
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, err
	}
	if d.Schema != fileSchema || kind != "" && d.Kind != kind {
		return nil, fmt.Errorf("it has schema %q and kind %q, not %q and %q", d.Schema, d.Kind, fileSchema, kind)
	}
	return &d, nil
}

// FileKind says how the root in a file is kept.
func FileKind(path string) (string, error) {
	d, err := readDocument(path, "")
	if err != nil {
		return "", fmt.Errorf("reading root %s: %w", path, err)
	}
	return d.Kind, nil
}
