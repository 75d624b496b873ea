// SPDX-License-Identifier: Apache-2.0

package encfs

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"cofferdam.dev/internal/sidecar/config"
	"cofferdam.dev/internal/volume/descriptor"
)

// maxConfig bounds the configuration in bytes, and maxFilesystems the filesystems in it.
const (
	maxConfig      = 1 << 20
	maxFilesystems = 64
)

// Config is the sidecar's configuration, as container groups on Azure give it: JSON, in base64.
type Config struct {
	// Azure is the configuration of the release sidecar's part, which its package reads.
	Azure       json.RawMessage `json:"azure_info"`
	Filesystems []Filesystem    `json:"azure_filesystems"`
}

// Filesystem is one that is to be mounted.
type Filesystem struct {
	// URL is the image's; Private says that the group's identity reads it, and not anybody.
	URL     string `json:"azure_url"`
	Private bool   `json:"azure_url_private"`
	// MountPoint is where containers find it.
	MountPoint string `json:"mount_point"`
	// ReadWrite mounts it to be written.
	ReadWrite bool `json:"read_write"`
	// Key is released, and Derivation makes the secret of an RSA key.
	Key        Key        `json:"key"`
	Derivation Derivation `json:"key_derivation"`
	// RawKey is for tests of the original. It is refused: a key in the configuration is known to the host.
	RawKey string `json:"raw_key"`
	// Ours is what the original does not have.
	Ours Ours `json:"x-cofferdam"`
}

// Key names a key of a vault.
type Key struct {
	ID        string   `json:"kid"`
	Type      string   `json:"kty"`
	Ops       []string `json:"key_ops"`
	Authority Endpoint `json:"authority"`
	Vault     Endpoint `json:"akv"`
}

// Endpoint is a server. Type and version of the original's requests are accepted, and say nothing here.
type Endpoint struct {
	Endpoint    string `json:"endpoint"`
	APIVersion  string `json:"api_version"`
	TEEType     string `json:"tee_type"`
	BearerToken string `json:"bearer_token"`
}

// Derivation is how a secret follows from an RSA key.
type Derivation struct {
	Salt  string `json:"salt"`
	Label string `json:"label"`
}

// Ours is what is said of a volume beside the original's configuration.
type Ours struct {
	// Descriptor is the volume's. Without one the storage is believed as the original believes it.
	Descriptor *descriptor.Descriptor `json:"descriptor"`
	// AnchorDirectory has the records of anchors of kind file.
	AnchorDirectory string `json:"anchor_directory"`
	// WithoutAnchor opens a volume without the anchor that its descriptor wants.
	WithoutAnchor bool `json:"without_anchor"`
}

// ParseConfig reads a configuration: base64, of either alphabet, or the JSON itself. A member that is not known is an error:
// it would do nothing.
func ParseConfig(text string) (*Config, error) {
	c, err := parseConfig(text)
	if err != nil {
		return nil, fmt.Errorf("reading the filesystem sidecar's configuration: %w", err)
	}
	return c, nil
}

func parseConfig(text string) (*Config, error) {
	c := &Config{}
	if err := config.Read(text, maxConfig, c); err != nil {
		return nil, err
	}
	return c, c.validate()
}

func (c *Config) validate() error {
	if n := len(c.Filesystems); n == 0 || n > maxFilesystems {
		return fmt.Errorf("it has %d filesystems; want 1 to %d", n, maxFilesystems)
	}
	points := map[string]bool{}
	for i := range c.Filesystems {
		f := &c.Filesystems[i]
		if err := f.validate(); err != nil {
			return fmt.Errorf("filesystem %d: %w", i, err)
		}
		if points[f.MountPoint] {
			return fmt.Errorf("filesystem %d: mount_point %q is another one's, too", i, f.MountPoint)
		}
		points[f.MountPoint] = true
	}
	return nil
}

func (f *Filesystem) validate() error {
	clean := filepath.Clean(f.MountPoint)
	switch {
	case f.URL == "":
		return errors.New("azure_url is missing")
	case !filepath.IsAbs(f.MountPoint) || clean == "/" || filepath.Dir(clean) == "/":
		return fmt.Errorf("mount_point is %q; want an absolute path below a directory that containers share", f.MountPoint)
	case f.RawKey != "" && f.Key.ID == "":
		return errors.New("raw_key is refused: whoever sees the configuration has the key; have one released")
	case f.Key.ID == "" && f.vaultSlot() == nil:
		return errors.New("key is missing: which key of which vault opens it")
	case f.Key.ID != "" && (f.Key.Vault.Endpoint == "" || f.Key.Authority.Endpoint == ""):
		return errors.New("key needs akv.endpoint and authority.endpoint")
	case f.Ours.Descriptor == nil && (f.Ours.AnchorDirectory != "" || f.Ours.WithoutAnchor):
		return errors.New("x-cofferdam says something of an anchor, and has no descriptor")
	}
	f.MountPoint = clean
	return nil
}

// vaultSlot is the first key in the descriptor that a vault releases; nil is none.
func (f *Filesystem) vaultSlot() *descriptor.Slot {
	if f.Ours.Descriptor == nil {
		return nil
	}
	for i := range f.Ours.Descriptor.Slots {
		if s := &f.Ours.Descriptor.Slots[i]; s.Kind == descriptor.VaultSlot {
			return s
		}
	}
	return nil
}
