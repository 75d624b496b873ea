// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

// Options say where images are kept and how registries are reached. The zero value opens archives and layouts;
// registries need Dir.
type Options struct {
	Dir       string   // pull cache: an OCI layout that several processes may share
	PlainHTTP bool     // speak HTTP without TLS to the registry
	Offline   bool     // do not ask the registry; use what was pulled earlier
	Progress  Progress // told how a pull proceeds; may be nil
	Login     Login    // asked before the machine's own logins; may be nil
}

// Login returns user name and password for a registry ("registry.example:5000"), and false if it has none.
type Login func(registry string) (username, password string, ok bool)

// Progress is told how much of a blob has been pulled. Calls for one blob do not overlap, calls for several may.
type Progress func(digest string, done, total int64)

// Errors that callers tell apart.
var (
	// ErrReference reports a reference that cannot be understood.
	ErrReference = errors.New("not an image reference")
	// ErrNotFound reports that the reference names no image.
	ErrNotFound = errors.New("no such image")
	// ErrMalformed reports an image, archive or layout that breaks its format or a limit.
	ErrMalformed = errors.New("malformed image")
	// ErrDigest reports content that does not match the digest that refers to it.
	ErrDigest = errors.New("content does not match its digest")
)

// Transports that a reference may name before a colon. A reference without one is looked up in a registry.
const (
	transportLayout        = "oci"
	transportArchive       = "oci-archive"
	transportDockerArchive = "docker-archive"
)

// Local says whether ref names a layout or an archive of this machine, and no image of a registry.
func Local(ref string) bool {
	transport, _, found := strings.Cut(ref, ":")
	return found && (transport == transportLayout || transport == transportArchive || transport == transportDockerArchive)
}

// Open opens the image that ref names: a registry reference such as registry.example/app:1.2, or "oci:DIR[:TAG]",
// "oci-archive:FILE[:TAG]" or "docker-archive:FILE[:TAG]". Of an image for several platforms it opens linux/amd64.
func Open(ctx context.Context, ref string, o Options) (*Image, error) {
	var img *Image
	var err error
	transport, rest, found := strings.Cut(ref, ":")
	switch {
	case found && transport == transportLayout:
		img, err = openLayout(rest)
	case found && transport == transportArchive:
		img, err = openArchive(rest)
	case found && transport == transportDockerArchive:
		img, err = openDockerArchive(rest)
	default:
		img, err = openRegistry(ctx, ref, o)
	}
	if err != nil {
		return nil, fmt.Errorf("opening image %q: %w", ref, err)
	}
	return img, nil
}

// splitPath separates PATH[:TAG]. Both may contain colons, so the longest prefix that exists is the path.
func splitPath(s string) (path, tag string, err error) {
	if s == "" {
		return "", "", fmt.Errorf("%w: the path is missing", ErrReference)
	}
	for end := len(s); end > 0; end = strings.LastIndexByte(s[:end], ':') {
		_, err = os.Stat(s[:end])
		if err == nil {
			return s[:end], strings.TrimPrefix(s[end:], ":"), nil
		}
	}
	path, tag, _ = strings.Cut(s, ":")
	_, err = os.Stat(path)
	return path, tag, err
}

func openLayout(s string) (*Image, error) {
	dir, tag, err := splitPath(s)
	if err != nil {
		return nil, err
	}
	return fromLayout(dirStore(dir), tag)
}

func openArchive(s string) (*Image, error) {
	file, tag, err := splitPath(s)
	if err != nil {
		return nil, err
	}
	a, err := scanArchive(file)
	if err != nil {
		return nil, err
	}
	return fromLayout(a, tag)
}

func openDockerArchive(s string) (*Image, error) {
	file, tag, err := splitPath(s)
	if err != nil {
		return nil, err
	}
	a, err := scanArchive(file)
	if err != nil {
		return nil, err
	}
	return fromDocker(a, tag)
}
