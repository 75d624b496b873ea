// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Limits on what is read into memory. Real manifests have kilobytes; registries refuse more than 4 MiB.
const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	maxLayers   = 512
	maxBlob     = 128 << 30 // the size of a layer's disk is limited to this as well
)

// store gives access to files by their name inside a layout or archive. Nothing it returns has been checked.
type store interface {
	// open returns a regular file and its size.
	open(name string) (io.ReadCloser, int64, error)
}

// dirStore is an OCI layout in a directory. Names cannot lead out of it, not even by symbolic links.
type dirStore string

func (d dirStore) open(name string) (io.ReadCloser, int64, error) {
	root, err := os.OpenRoot(string(d))
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = root.Close() }() // only read through
	info, err := root.Stat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%w: %s is not a regular file", ErrMalformed, name)
	}
	f, err := root.Open(name)
	if err != nil {
		return nil, 0, err
	}
	return f, info.Size(), nil
}

// readSmall reads a whole file that no digest refers to.
func readSmall(s store, name string, limit int64) ([]byte, error) {
	f, size, err := s.open(name)
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	defer func() { _ = f.Close() }() // only read
	if size > limit {
		return nil, fmt.Errorf("reading %s: %w: expected at most %d bytes, got %d", name, ErrMalformed, limit, size)
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", name, err)
	}
	if int64(len(b)) > limit {
		return nil, fmt.Errorf("reading %s: %w: expected at most %d bytes", name, ErrMalformed, limit)
	}
	return b, nil
}

// blobName is where a layout keeps the blob with a digest.
func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// openBlob opens the blob that a descriptor refers to. The reader fails at the end unless digest and size match.
func openBlob(s store, d v1.Descriptor) (io.ReadCloser, error) {
	err := checkHash(d.Digest)
	if err != nil {
		return nil, err
	}
	f, size, err := s.open(blobName(d.Digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: blob %s (%s) is missing", ErrMalformed, d.Digest, d.MediaType)
	}
	if err != nil {
		return nil, fmt.Errorf("opening blob %s: %w", d.Digest, err)
	}
	if size != d.Size {
		_ = f.Close() // only read
		return nil, fmt.Errorf("%w: blob %s: expected %d bytes, got %d", ErrMalformed, d.Digest, d.Size, size)
	}
	return verified(f, d.Digest, d.Size), nil
}

// readBlob reads the blob that a descriptor refers to and checks it.
func readBlob(s store, d v1.Descriptor, limit int64) ([]byte, error) {
	if d.Size < 0 || d.Size > limit {
		return nil, fmt.Errorf("%w: blob %s (%s): expected at most %d bytes, got %d", ErrMalformed, d.Digest, d.MediaType, limit, d.Size)
	}
	r, err := openBlob(s, d)
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // only read
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading blob %s: %w", d.Digest, err)
	}
	return b, nil
}

// checkHash accepts SHA-256 alone.
func checkHash(h v1.Hash) error {
	if h.Algorithm != "sha256" || len(h.Hex) != 2*sha256.Size {
		return fmt.Errorf("%w: digest %q: only sha256 is supported", ErrMalformed, h.String())
	}
	return nil
}

// verifier reads exactly size bytes and reports io.EOF only if they have the digest.
type verifier struct {
	r      io.ReadCloser
	digest v1.Hash
	left   int64
	hash   hash.Hash
}

func verified(r io.ReadCloser, digest v1.Hash, size int64) io.ReadCloser {
	return &verifier{r: r, digest: digest, left: size, hash: sha256.New()}
}

func (v *verifier) Read(p []byte) (int, error) {
	if v.left == 0 {
		return 0, v.finish()
	}
	if int64(len(p)) > v.left {
		p = p[:v.left]
	}
	n, err := v.r.Read(p)
	v.left -= int64(n)
	_, _ = v.hash.Write(p[:n]) // a hash never fails
	if errors.Is(err, io.EOF) {
		err = nil
		if v.left > 0 {
			err = fmt.Errorf("blob %s: %w: %d bytes are missing", v.digest, io.ErrUnexpectedEOF, v.left)
		}
	}
	return n, err
}

func (v *verifier) finish() error {
	actual := hex.EncodeToString(v.hash.Sum(nil))
	if actual != v.digest.Hex {
		return fmt.Errorf("%w: expected %s, got sha256:%s", ErrDigest, v.digest, actual)
	}
	var extra [1]byte
	n, _ := io.ReadFull(v.r, extra[:])
	if n > 0 {
		return fmt.Errorf("%w: blob %s is longer than its descriptor says", ErrDigest, v.digest)
	}
	return io.EOF
}

func (v *verifier) Close() error { return v.r.Close() }
