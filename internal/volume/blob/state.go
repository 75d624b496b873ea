// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"cofferdam.dev/internal/wholefile"
)

// stateVersion is the version of the file's form.
const stateVersion = 1

// state is what an upload remembers, as JSON. Whoever can change the file can make the upload wrong, as whoever can change
// what is uploaded.
type state struct {
	Version  int            `json:"version"`
	URL      string         `json:"url"` // without parameters
	PageBlob bool           `json:"pageBlob"`
	Size     int64          `json:"size"`
	Modified time.Time      `json:"modified"`
	Session  string         `json:"session"` // our name for the upload
	Remote   string         `json:"remote"`  // the server's
	Receipts map[int]string `json:"receipts"`
}

func newState(o UploadOptions, p place, f *File) *state {
	s := &state{
		Version: stateVersion, URL: p.at.String(), PageBlob: o.PageBlob, Size: f.size, Session: strings.ToLower(rand.Text()),
		Receipts: map[int]string{},
	}
	if info, err := f.f.Stat(); err == nil {
		s.Modified = info.ModTime()
	}
	return s
}

// load takes over a state that is about the same upload, and reports whether there is one.
func (s *state) load(path string) bool {
	if path == "" {
		return false
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	var old state
	if json.Unmarshal(text, &old) != nil || old.Version != stateVersion || old.Receipts == nil || old.Session == "" {
		return false
	}
	if old.URL != s.URL || old.PageBlob != s.PageBlob || old.Size != s.Size || !old.Modified.Equal(s.Modified) {
		return false
	}
	*s = old
	return true
}

func (s *state) store(path string) error {
	text, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("writing the state of the upload: %w", err)
	}
	return wholefile.Replace(path, text, 0o600)
}

func (s *state) remove(path string) error {
	if path == "" {
		return nil
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing the state of the upload: %w", err)
	}
	return nil
}
