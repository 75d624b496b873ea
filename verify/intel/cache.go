// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"crypto/x509"

	"cofferdam.dev/verify/anchor"
	"cofferdam.dev/verify/internal/recent"
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
	known  *recent.Map[any]
}

// maxDocuments is the largest number of documents in a cache. There is one TCB info per platform model and kind of guest,
// and one QE identity per kind.
const maxDocuments = 256

// NewCache returns a cache that keeps its facts about certificates in the given one, which may be nil.
func NewCache(facts *anchor.Cache) *Cache {
	return &Cache{shared: facts, known: recent.New[any](maxDocuments)}
}

// Forget drops all documents. The facts about certificates are their owner's to drop.
func (c *Cache) Forget() { c.documents().Forget() }

// Len returns the number of documents that are remembered.
func (c *Cache) Len() int { return c.documents().Len() }

// facts and documents return what is remembered, or nil for a nil Cache, which works then, too.
func (c *Cache) facts() *anchor.Cache {
	if c == nil {
		return nil
	}
	return c.shared
}

func (c *Cache) documents() *recent.Map[any] {
	if c == nil {
		return nil
	}
	return c.known
}

// documentKey names a document as signed by a key.
func documentKey(kind string, signer *x509.Certificate, body []byte) recent.Key {
	return recent.Digest(kind, signer.RawSubjectPublicKeyInfo, body)
}
