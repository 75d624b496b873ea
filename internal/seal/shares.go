// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
)

// KindShares is a root whose key is split among people.
const KindShares = "shares"

// split is what a root file says of its shares.
type split struct {
	// ID tells the shares of one root from those of another.
	ID        string `json:"id"`
	Threshold int    `json:"threshold"`
	// Hashes are SHA-256 of each share's bytes, so that one that is wrong is found before it spoils the others.
	Hashes [][]byte `json:"hashes"`
}

func (s *split) validate() error {
	if s == nil || s.Threshold < 2 || len(s.Hashes) < s.Threshold || len(s.Hashes) > maxShares {
		return errors.New("its shares are not described")
	}
	return nil
}

// sharePrefix begins the text of a share: cofferdam-share-1.ID.NUMBER.BASE64URL.
const sharePrefix = "cofferdam-share-1"

// ErrShare says that a share is not one of this root.
var ErrShare = errors.New("it is no share of this root")

func hashShare(number int, b []byte) []byte {
	sum := sha256.Sum256(append([]byte("cofferdam.dev/share/v1\x00"+strconv.Itoa(number)+"\x00"), b...))
	return sum[:]
}

// CreateShares makes a root with a random key, splits its key into n shares of which k open it, and keeps it in a new file.
// The shares are text, and nowhere else: each is for one person.
func CreateShares(path string, n, k int) (*Memory, []*Secret, error) {
	root, key := NewRootKey(), NewRootKey()
	defer root.Destroy()
	defer key.Destroy()
	shares, err := splitSecret(key.Expose(), n, k)
	if err != nil {
		return nil, nil, fmt.Errorf("making root %s: %w", path, err)
	}
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails
	s := &split{ID: hex.EncodeToString(id), Threshold: k}
	var texts []*Secret
	for i, b := range shares {
		s.Hashes = append(s.Hashes, hashShare(i+1, b))
		text := fmt.Sprintf("%s.%s.%d.%s", sharePrefix, s.ID, i+1, base64.RawURLEncoding.EncodeToString(b))
		texts = append(texts, NewSecret([]byte(text)))
		clear(b)
	}
	d := &document{Schema: fileSchema, Kind: KindShares, Split: s}
	if err = d.seal(key, root); err == nil {
		err = d.create(path)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("making root %s: %w", path, err)
	}
	m, err := NewMemory(root, KindShares)
	return m, texts, err
}

// Unsealer collects shares until there are enough. It is safe for concurrent use.
type Unsealer struct {
	d *document

	mu     sync.Mutex
	x      []byte
	shares [][]byte
	root   *Memory
}

// OpenShares begins to open the root in a file.
func OpenShares(path string) (*Unsealer, error) {
	d, err := readDocument(path, KindShares)
	if err == nil {
		err = d.Split.validate()
	}
	if err != nil {
		return nil, fmt.Errorf("opening root %s: %w", path, err)
	}
	return &Unsealer{d: d}, nil
}

// Progress says how many shares are still missing, and how many are needed in all.
func (u *Unsealer) Progress() (missing, threshold int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.missing(), u.d.Split.Threshold
}

func (u *Unsealer) missing() int {
	if u.root != nil {
		return 0
	}
	return u.d.Split.Threshold - len(u.x)
}

// Add takes a share, whose text the caller destroys, and returns how many are still missing. A share that was given before
// changes nothing. Once none is missing, Root has the root and the shares are forgotten.
func (u *Unsealer) Add(share *Secret) (missing int, err error) {
	number, b, err := u.parse(string(share.Expose()))
	u.mu.Lock()
	defer u.mu.Unlock()
	if err != nil {
		return u.missing(), err
	}
	if u.root != nil || bytes.IndexByte(u.x, number) >= 0 {
		clear(b)
		return u.missing(), nil
	}
	u.x, u.shares = append(u.x, number), append(u.shares, b)
	if u.missing() > 0 {
		return u.missing(), nil
	}
	key, err := joinShares(u.x, u.shares)
	for _, s := range u.shares {
		clear(s)
	}
	u.x, u.shares = nil, nil
	if err != nil {
		return u.missing(), err
	}
	secret := NewSecret(key)
	defer secret.Destroy()
	u.root, err = u.d.open(secret)
	return u.missing(), err
}

// parse reads a share, and requires it to be one that the file knows.
func (u *Unsealer) parse(text string) (number byte, b []byte, err error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 4 || parts[0] != sharePrefix || parts[1] != u.d.Split.ID {
		return 0, nil, ErrShare
	}
	n, err := strconv.ParseUint(parts[2], 10, 8)
	if err != nil || n == 0 || int(n) > len(u.d.Split.Hashes) {
		return 0, nil, ErrShare
	}
	b, err = base64.RawURLEncoding.Strict().DecodeString(parts[3])
	if err != nil || len(b) != RootKeySize || subtle.ConstantTimeCompare(hashShare(int(n), b), u.d.Split.Hashes[n-1]) != 1 {
		return 0, nil, ErrShare
	}
	return byte(n), b, nil
}

// Root returns the root, or an error that wraps ErrSealed while shares are missing.
func (u *Unsealer) Root() (*Memory, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.root == nil {
		return nil, fmt.Errorf("%d of %d shares are missing: %w", u.missing(), u.d.Split.Threshold, ErrSealed)
	}
	return u.root, nil
}
