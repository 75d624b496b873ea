// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"sync"

	"cofferdam.dev/verify/anchor"
)

// Cache remembers what was parsed and verified, so that judging a quote of a known machine costs the quote's own two
// signatures. Besides the facts of an anchor.Cache it holds Intel's documents, each under the digest of its bytes and of
// the key that signed it, and only once a root vouched for that key. Like those facts, what it holds does not depend on
// roots, revocation lists, policy or time, all of which are judged anew at every appraisal, so that nothing in it can be
// out of date.
//
// It is bounded, and safe for concurrent use. A nil Cache works and remembers nothing.
type Cache struct {
	shared *anchor.Cache

	mu         sync.Mutex
	young, old map[[32]byte]any
}

// maxDocuments is the largest number of documents in each half of a cache. There is one TCB info per platform model and
// kind of guest, and one QE identity per kind.
const maxDocuments = 128

// NewCache returns a cache that keeps its facts about certificates in the given one, which may be nil.
func NewCache(facts *anchor.Cache) *Cache {
	return &Cache{shared: facts, young: map[[32]byte]any{}}
}

// Forget drops all documents. The facts about certificates are their owner's to drop.
func (c *Cache) Forget() {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.young, c.old = map[[32]byte]any{}, nil
}

// Len returns the number of documents that are remembered.
func (c *Cache) Len() int {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.young) + len(c.old)
}

func (c *Cache) facts() *anchor.Cache {
	if c == nil {
		return nil
	}
	return c.shared
}

// documentKey names a document as signed by a key. The parts are hashed with their lengths.
func documentKey(kind string, signer *x509.Certificate, body []byte) [32]byte {
	h := sha256.New()
	for _, part := range [][]byte{[]byte(kind), signer.RawSubjectPublicKeyInfo, body} {
		_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(part)))) // a hash never fails
		_, _ = h.Write(part)
	}
	return [32]byte(h.Sum(nil))
}

// get returns a document, and moves it to the half that is not dropped next.
func (c *Cache) get(key [32]byte) any {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if d, ok := c.young[key]; ok {
		return d
	}
	d, ok := c.old[key]
	if !ok {
		return nil
	}
	delete(c.old, key)
	c.add(key, d)
	return d
}

func (c *Cache) put(key [32]byte, document any) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(key, document)
}

// add keeps both halves within their bound. Its caller holds the lock.
func (c *Cache) add(key [32]byte, document any) {
	if len(c.young) >= maxDocuments {
		c.young, c.old = map[[32]byte]any{}, c.young
	}
	c.young[key] = document
}
