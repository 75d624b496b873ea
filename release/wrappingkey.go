// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256" // for the thumbprint
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"sync"

	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/internal/vault/wrap"
)

// Sizes of wrapping keys, in bits.
const (
	// DefaultWrappingBits is what vaults and their clients use.
	DefaultWrappingBits = 2048
	// MaxWrappingBits is the longest that is made: making one takes seconds.
	MaxWrappingBits = 4096
)

// WrappingKey is a key pair that keys are encrypted to on their way here. The private half is made in this process and
// stays in it. It prints as its key ID.
type WrappingKey struct {
	private *rsa.PrivateKey
	id      string
}

// NewWrappingKey makes a key pair of 2048, 3072 or 4096 bits.
func NewWrappingKey(bits int) (*WrappingKey, error) {
	switch bits {
	case DefaultWrappingBits, 3072, MaxWrappingBits:
	default:
		return nil, malformed("a wrapping key has 2048, 3072 or 4096 bits, not %d", bits)
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("making a wrapping key: %w", err)
	}
	jwk := jose.JSONWebKey{Key: &key.PublicKey}
	sum, err := jwk.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("making a wrapping key: %w", err)
	}
	return &WrappingKey{private: key, id: base64.RawURLEncoding.EncodeToString(sum)}, nil
}

// ID returns the key's thumbprint (RFC 7638) with SHA-256, in base64url.
func (k *WrappingKey) ID() string { return k.id }

// String names the key without its secret.
func (k *WrappingKey) String() string { return "wrapping key " + k.id }

// GoString is String, so that no format prints the secret.
func (k *WrappingKey) GoString() string { return k.String() }

// RuntimeData is what the guest's evidence has to commit to: a JWK set with the public half, for encryption. A nonce of the
// attestation service is put beside it when it is not empty.
func (k *WrappingKey) RuntimeData(nonce string) []byte {
	type jwk struct {
		E   string   `json:"e"`
		Ops []string `json:"key_ops"`
		ID  string   `json:"kid"`
		Kty string   `json:"kty"`
		N   string   `json:"n"`
	}
	b, err := json.Marshal(struct {
		Keys  []jwk  `json:"keys"`
		Nonce string `json:"nonce,omitempty"`
	}{[]jwk{{
		E: number(big.NewInt(int64(k.private.E))), Ops: []string{"encrypt"}, ID: k.id, Kty: "RSA", N: number(k.private.N),
	}}, nonce})
	if err != nil {
		panic(err) // strings always can be encoded
	}
	return b
}

func number(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }

// Open decrypts what was encrypted to the key in one of the formats of a release.
func (k *WrappingKey) Open(enc string, sealed []byte) ([]byte, error) {
	return wrap.OpenRSA(wrap.Enc(enc), k.private, sealed)
}

// Pool has wrapping keys that were made before they are needed: making one takes many times longer than all else of a
// release. It is safe for concurrent use.
type Pool struct {
	bits   int
	ready  chan *WrappingKey
	making sync.Mutex
}

// MaxPool bounds the keys of a pool.
const MaxPool = 64

// NewPool returns a pool of up to size keys, which Run makes.
func NewPool(size, bits int) (*Pool, error) {
	if size < 1 || size > MaxPool {
		return nil, malformed("a pool has 1 to %d keys, not %d", MaxPool, size)
	}
	if bits == 0 {
		bits = DefaultWrappingBits
	}
	return &Pool{bits: bits, ready: make(chan *WrappingKey, size)}, nil
}

// Run keeps the pool full until ctx ends. It makes one key at a time, so that it never takes more than one processor.
func (p *Pool) Run(ctx context.Context) error {
	for {
		k, err := p.make()
		if err != nil {
			return err
		}
		select {
		case p.ready <- k:
		case <-ctx.Done():
			return nil
		}
	}
}

// Len returns how many keys are ready.
func (p *Pool) Len() int { return len(p.ready) }

// Take returns a key that nobody else gets. When none is ready it makes one, while others that find none wait for it.
func (p *Pool) Take() (*WrappingKey, error) {
	select {
	case k := <-p.ready:
		return k, nil
	default:
	}
	p.making.Lock()
	defer p.making.Unlock()
	select {
	case k := <-p.ready: // made while we waited
		return k, nil
	default:
		return NewWrappingKey(p.bits)
	}
}

func (p *Pool) make() (*WrappingKey, error) {
	p.making.Lock()
	defer p.making.Unlock()
	return NewWrappingKey(p.bits)
}
