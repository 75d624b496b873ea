// SPDX-License-Identifier: Apache-2.0

package release

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"sync"

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
	// private is an *rsa.PrivateKey or hpke.PrivateKey, as package wrap takes it.
	private crypto.PrivateKey
	id      string
	// jwk is the public half.
	jwk json.RawMessage
}

// NewWrappingKey makes an RSA key pair of 2048, 3072 or 4096 bits, for the formats that all vaults know.
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
	e, n := number(big.NewInt(int64(key.E))), number(key.N)
	// The members that a thumbprint is made of (RFC 7638 §3.2), and then all, both in the order of their names.
	id := thumbprint(`{"e":"` + e + `","kty":"RSA","n":"` + n + `"}`)
	return &WrappingKey{key, id, json.RawMessage(`{"e":"` + e + `","key_ops":["encrypt"],"kid":"` + id + `","kty":"RSA","n":"` + n + `"}`)}, nil
}

// newWrappingKeyFor makes a key pair for one of the formats that are not around RSA. It costs next to nothing.
func newWrappingKeyFor(format string) (*WrappingKey, error) {
	kem := hpke.DHKEM(ecdh.X25519())
	if wrap.Enc(format) == wrap.HPKEHybrid {
		kem = hpke.MLKEM768X25519()
	}
	key, err := kem.GenerateKey()
	if err != nil {
		return nil, fmt.Errorf("making a wrapping key: %w", err)
	}
	public := base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes())
	if wrap.Enc(format) == wrap.HPKEHybrid {
		id := thumbprint(`{"alg":"X-Wing","kty":"AKP","pub":"` + public + `"}`)
		return &WrappingKey{key, id, json.RawMessage(`{"alg":"X-Wing","key_ops":["encrypt"],"kid":"` + id + `","kty":"AKP","pub":"` + public + `"}`)}, nil
	}
	id := thumbprint(`{"crv":"X25519","kty":"OKP","x":"` + public + `"}`)
	return &WrappingKey{key, id, json.RawMessage(`{"crv":"X25519","key_ops":["deriveBits"],"kid":"` + id + `","kty":"OKP","x":"` + public + `"}`)}, nil
}

func number(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }

func thumbprint(members string) string {
	sum := sha256.Sum256([]byte(members))
	return base64.RawURLEncoding.EncodeToString(sum[:])
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
	b, err := json.Marshal(struct {
		Keys  []json.RawMessage `json:"keys"`
		Nonce string            `json:"nonce,omitempty"`
	}{[]json.RawMessage{k.jwk}, nonce})
	if err != nil {
		panic(err) // texts and our own JSON always can be encoded
	}
	return b
}

// Open decrypts what was encrypted to the key in one of the formats of a release.
func (k *WrappingKey) Open(format string, sealed []byte) ([]byte, error) {
	return wrap.Open(wrap.Enc(format), k.private, sealed)
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
