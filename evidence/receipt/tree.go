// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"cofferdam.dev/internal/cbor"
)

// Limits of a proof. A path of 64 hashes is one over more transactions than a ledger can have.
const (
	maxProofs   = 16
	maxPath     = 64
	maxEvidence = 1024 // the profile's own, in bytes
)

// Leaf is what one transaction adds to the ledger's tree.
type Leaf struct {
	// WriteSet is the digest of everything that the transaction wrote.
	WriteSet [sha256.Size]byte
	// CommitEvidence is text that the ledger gives away only once the transaction is committed; by custom it is
	// "ce:", the transaction's identifier, and a secret.
	CommitEvidence string
	// Claims is the digest of what the application claims to have recorded. For a statement it is StatementDigest.
	Claims [sha256.Size]byte
}

// Hash is the leaf's hash in the tree. CCF's trees, unlike those of RFC 9162, have no prefixes before what they hash.
func (l Leaf) Hash() [sha256.Size]byte {
	evidence := sha256.Sum256([]byte(l.CommitEvidence))
	return hash(l.WriteSet[:], evidence[:], l.Claims[:])
}

// Step is one hash on the path from a leaf to the root.
type Step struct {
	// Left says that the hash lies to the left of the path.
	Left bool
	Hash [sha256.Size]byte
}

// Proof is a leaf and its path.
type Proof struct {
	Leaf Leaf
	Path []Step
}

// Root is the root of the tree in which the proof holds.
func (p Proof) Root() [sha256.Size]byte { return climb(p.Leaf.Hash(), p.Path) }

func climb(at [sha256.Size]byte, path []Step) [sha256.Size]byte {
	for _, s := range path {
		if s.Left {
			at = hash(s.Hash[:], at[:])
		} else {
			at = hash(at[:], s.Hash[:])
		}
	}
	return at
}

func hash(parts ...[]byte) (out [sha256.Size]byte) {
	h := sha256.New()
	for _, p := range parts {
		h.Write(p)
	}
	h.Sum(out[:0])
	return out
}

// Labels of a proof in CBOR.
const (
	labelLeaf = 1
	labelPath = 2
)

// parseProof reads the encoded map {1: [write set, commit evidence, claims], 2: [[left, hash]…]}.
func parseProof(data []byte) (Proof, error) {
	var p Proof
	it, err := cbor.Decode(data)
	if err != nil {
		return p, err
	}
	leaf, _ := it.Lookup(labelLeaf)
	path, _ := it.Lookup(labelPath)
	if it.Kind != cbor.Map || leaf.Kind != cbor.Array || path.Kind != cbor.Array {
		return p, errors.New("it is not a map of a leaf and a path")
	}
	if len(leaf.Items) != 3 {
		return p, fmt.Errorf("leaf has %d parts, want 3", len(leaf.Items))
	}
	evidence := leaf.Items[1]
	if evidence.Kind != cbor.Text || evidence.Text == "" || len(evidence.Text) > maxEvidence {
		return p, fmt.Errorf("commit evidence is not a text of 1 to %d bytes", maxEvidence)
	}
	p.Leaf.CommitEvidence = evidence.Text
	if p.Leaf.WriteSet, err = digest(leaf.Items[0]); err != nil {
		return p, fmt.Errorf("digest of the write set: %w", err)
	}
	if p.Leaf.Claims, err = digest(leaf.Items[2]); err != nil {
		return p, fmt.Errorf("digest of the claims: %w", err)
	}
	if n := len(path.Items); n == 0 || n > maxPath {
		return p, fmt.Errorf("path has %d steps, want 1 to %d", n, maxPath)
	}
	for i, e := range path.Items {
		if e.Kind != cbor.Array || len(e.Items) != 2 || e.Items[0].Kind != cbor.Bool {
			return p, fmt.Errorf("step %d of the path is not a side and a hash", i)
		}
		h, err := digest(e.Items[1])
		if err != nil {
			return p, fmt.Errorf("step %d of the path: %w", i, err)
		}
		p.Path = append(p.Path, Step{Left: e.Items[0].Bool, Hash: h})
	}
	return p, nil
}

func digest(it cbor.Item) (d [sha256.Size]byte, err error) {
	if it.Kind != cbor.Bytes || len(it.Bytes) != len(d) {
		return d, fmt.Errorf("it is not a byte string of %d bytes", len(d))
	}
	return [sha256.Size]byte(it.Bytes), nil
}
