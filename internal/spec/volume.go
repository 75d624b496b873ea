// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"fmt"
	"io"
	"log/slog"
	"net/url"
)

// Volume is where mounts of the same name get their content from.
type Volume struct {
	Name string    `json:"name"`
	Kind MountKind `json:"kind"`

	// Files are the content of a secret, a ConfigMap or a projected volume.
	Files []File `json:"files,omitempty"`

	// Repository is cloned before the containers start.
	Repository *Repository `json:"repository,omitempty"`

	// Share is an Azure file share. On a machine of our own a directory of the host stands in for it.
	Share *Share `json:"share,omitempty"`

	// Memory keeps an empty directory in memory even if the group has a scratch disk. SizeLimitBytes bounds it; zero does
	// not.
	Memory         bool   `json:"memory,omitempty"`
	SizeLimitBytes uint64 `json:"size_limit_bytes,omitempty"`
}

// File is one file of a volume.
type File struct {
	Path    string  `json:"path"` // relative, clean, slashes allowed
	Content Content `json:"-"`
	Mode    uint32  `json:"mode,omitempty"` // permission bits; 0 is 0644
}

// Content is bytes that may be secret. It never shows itself; whoever needs it says []byte(c).
type Content []byte

// String is a placeholder.
func (c Content) String() string { return "[content]" }

// GoString is like String.
func (c Content) GoString() string { return c.String() }

// Format shows no content under any verb: String alone would leave %d to print every byte.
func (c Content) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, c.String()) } // a State keeps what it gets

// LogValue is like String.
func (c Content) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalText shows no content either: it is handed over in memory alone.
func (c Content) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// Repository is a git repository.
type Repository struct {
	URL       string `json:"url"`
	Directory string `json:"directory,omitempty"` // within the volume; empty: named as the repository, "." the volume itself
	Revision  string `json:"revision,omitempty"`  // a commit; empty: whatever is newest
}

// Shown is the URL without what may be a secret in it: a password, or a token in the place of a user's name.
func (r *Repository) Shown() string {
	u, err := url.Parse(r.URL)
	if err != nil {
		return "a URL that can not be parsed"
	}
	if u.User == nil {
		return r.URL
	}
	user := url.User("xxxxx")
	if _, has := u.User.Password(); has {
		user = url.UserPassword(u.User.Username(), "xxxxx")
	}
	u.User = user
	return u.String()
}

// Share is an Azure file share. Whoever controls it controls its content: nothing of it is measured.
type Share struct {
	Account  string `json:"account"`
	Name     string `json:"name"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// RegistryCredential is a login for the images of one registry.
type RegistryCredential struct {
	Server   string
	Username string
	Password Content
}
