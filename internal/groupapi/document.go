// SPDX-License-Identifier: Apache-2.0

package groupapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"cofferdam.dev/internal/group/event"
	"cofferdam.dev/internal/wholefile"
)

// documentSchema names the form of a document.
const documentSchema = "cofferdam.dev/groups-api-resource/v1"

// maxDocument bounds a document's file in bytes.
const maxDocument = 16 << 20

// document is what is kept of a resource.
type document struct {
	Schema string     `json:"schema"`
	ID     resourceID `json:"id"`
	// Resource is what was put, without secure values and without what the service answers.
	Resource json.RawMessage `json:"resource"`
	// Secure is true when secure values were taken out of it.
	Secure   bool      `json:"secure,omitempty"`
	Warnings []string  `json:"warnings,omitempty"`
	Created  time.Time `json:"created"`
	Changed  time.Time `json:"changed"`
	// Group is the name of its group in the store, GroupID the ID; both are empty as long as there is none.
	Group   string `json:"group,omitempty"`
	GroupID string `json:"groupID,omitempty"`
	// Operation is the last one.
	Operation operation `json:"operation"`
	// Events are those of the last deployment before it had a supervisor.
	Events []event.Event `json:"events,omitempty"`
}

// clone is a copy whose members can be replaced.
func (d *document) clone() *document {
	c := *d
	return &c
}

// documents is the directory of documents, one file each.
type documents struct{ dir string }

func openDocuments(dir string) (*documents, error) {
	err := os.MkdirAll(dir, 0o700)
	if err != nil {
		return nil, fmt.Errorf("opening the documents: %w", err)
	}
	halves, err := filepath.Glob(filepath.Join(dir, ".new-*")) // files that were being written
	for _, f := range halves {
		err = errors.Join(err, os.Remove(f))
	}
	if err != nil {
		return nil, fmt.Errorf("opening the documents: %w", err)
	}
	return &documents{dir}, nil
}

func (d *documents) path(id resourceID) string { return filepath.Join(d.dir, id.digest()+".json") }

func (d *documents) write(doc *document) error {
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("writing the document of %s: %w", doc.ID, err)
	}
	return wholefile.Replace(d.path(doc.ID), append(data, '\n'), 0o600)
}

func (d *documents) remove(id resourceID) error {
	err := os.Remove(d.path(id))
	if err == nil {
		err = wholefile.SyncDir(d.dir)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing the document of %s: %w", id, err)
	}
	return nil
}

// all reads every document. One that can not be read is an error: it would be taken for a resource that is not there.
func (d *documents) all() ([]*document, error) {
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return nil, fmt.Errorf("reading the documents: %w", err)
	}
	var list []*document
	for _, e := range entries {
		if e.IsDir() || !strings.HasSuffix(e.Name(), ".json") {
			continue
		}
		doc, err := d.read(filepath.Join(d.dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("reading the document %s: %w", e.Name(), err)
		}
		list = append(list, doc)
	}
	return list, nil
}

func (d *documents) read(path string) (*document, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxDocument {
		return nil, fmt.Errorf("it has %d bytes, limit is %d", info.Size(), maxDocument)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var doc document
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	err = dec.Decode(&doc)
	switch {
	case err != nil:
		return nil, err
	case doc.Schema != documentSchema:
		return nil, fmt.Errorf("it has schema %q, want %q", doc.Schema, documentSchema)
	case doc.ID.check() != nil || d.path(doc.ID) != path:
		return nil, fmt.Errorf("it is the document of %s, whose place is elsewhere", doc.ID)
	}
	// The file is indented for people; the resource's hash is over the form in which it was put.
	var resource bytes.Buffer
	err = json.Compact(&resource, doc.Resource)
	doc.Resource = resource.Bytes()
	return &doc, err
}
