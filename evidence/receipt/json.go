// SPDX-License-Identifier: Apache-2.0

package receipt

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"cofferdam.dev/internal/strictpem"
)

// MaxJSONSize bounds a receipt in JSON, in bytes.
const MaxJSONSize = 1 << 20

// maxEndorsements bounds the earlier identities of a service that a receipt carries.
const maxEndorsements = 64

// JSON is a receipt in the form in which a ledger answers for a transaction. Signed is not the ledger but one of its
// nodes, whose certificate the ledger's service identity endorses.
type JSON struct {
	// TransactionID and Claims come with the complete answer only. The transaction is not signed; CommitEvidence is.
	TransactionID string
	Claims        []Claim

	// NodeID is the SHA-256 of the node's SubjectPublicKeyInfo.
	NodeID [sha256.Size]byte
	Node   *x509.Certificate
	// Endorsements lead from the identity that the service had when it signed to its present one, in that order; each
	// certificate is endorsed by the next. It is empty where the service has not been recovered since.
	Endorsements []*x509.Certificate

	// Leaf is nil for a signature transaction, which has no components: then LeafHash is all that is said of it.
	Leaf     *Leaf
	LeafHash [sha256.Size]byte
	Path     []Step

	signature []byte
}

// Root is the root of the tree in which the receipt holds.
func (r *JSON) Root() [sha256.Size]byte { return climb(r.LeafHash, r.Path) }

// answer is the complete answer to the request for a receipt.
type answer struct {
	Receipt json.RawMessage `json:"receipt"`
	State   string          `json:"state"`
	ID      string          `json:"transactionId"`
	Claims  []Claim         `json:"applicationClaims"`
}

// document is a receipt; each name exists in CCF's spelling and in that of Azure's ledger.
type document struct {
	Certificate   string        `json:"cert"`
	NodeID        string        `json:"node_id"`
	NodeIDCamel   string        `json:"nodeId"`
	Leaf          string        `json:"leaf"`
	Parts         *leafDocument `json:"leaf_components"`
	PartsCamel    *leafDocument `json:"leafComponents"`
	Proof         []stepText    `json:"proof"`
	Signature     string        `json:"signature"`
	Endorsed      []string      `json:"service_endorsements"`
	EndorsedCamel []string      `json:"serviceEndorsements"`
	OfSignature   bool          `json:"is_signature_transaction"`
	OfSignCamel   bool          `json:"isSignatureTransaction"`
}

type leafDocument struct {
	WriteSet      string `json:"write_set_digest"`
	WriteSetCamel string `json:"writeSetDigest"`
	Evidence      string `json:"commit_evidence"`
	EvidenceCamel string `json:"commitEvidence"`
	Claims        string `json:"claims_digest"`
	ClaimsCamel   string `json:"claimsDigest"`
}

type stepText struct {
	Left  string `json:"left"`
	Right string `json:"right"`
}

// ParseJSON reads a receipt in JSON, alone or as a part of the complete answer, in either spelling.
func ParseJSON(data []byte) (*JSON, error) {
	r, err := parseJSON(data)
	if err != nil {
		return nil, fmt.Errorf("parsing receipt: %w", err)
	}
	return r, nil
}

func parseJSON(data []byte) (*JSON, error) {
	if len(data) > MaxJSONSize {
		return nil, fmt.Errorf("it has %d bytes, at most %d are allowed", len(data), MaxJSONSize)
	}
	var whole answer
	err := strict(data, &whole)
	if err != nil || whole.Receipt == nil {
		if whole.State != "" && whole.State != "Ready" {
			return nil, fmt.Errorf("the ledger's answer is %q: ask again later", whole.State)
		}
		whole = answer{Receipt: data}
	}
	var d document
	err = strict(whole.Receipt, &d)
	if err != nil {
		return nil, err
	}
	r := &JSON{TransactionID: whole.ID, Claims: whole.Claims}
	err = r.readSigner(&d)
	if err != nil {
		return nil, err
	}
	return r, r.readTree(&d)
}

func strict(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(to)
	if err == nil && d.More() {
		err = errors.New("something follows the document")
	}
	return err
}

func (r *JSON) readSigner(d *document) error {
	id, err := either(d.NodeID, d.NodeIDCamel)
	if err == nil {
		r.NodeID, err = hexDigest(id)
	}
	if err != nil {
		return fmt.Errorf("node_id: %w", err)
	}
	if r.Node, err = certificate(d.Certificate); err != nil {
		return fmt.Errorf("cert: %w", err)
	}
	endorsed := append(d.Endorsed, d.EndorsedCamel...)
	if len(endorsed) > maxEndorsements {
		return fmt.Errorf("service_endorsements: there are %d, at most %d are allowed", len(endorsed), maxEndorsements)
	}
	for i, text := range endorsed {
		c, err := certificate(text)
		if err != nil {
			return fmt.Errorf("service_endorsements[%d]: %w", i, err)
		}
		r.Endorsements = append(r.Endorsements, c)
	}
	if r.signature, err = base64.StdEncoding.DecodeString(d.Signature); err != nil || len(r.signature) == 0 {
		return errors.New("signature: it is no base64")
	}
	return nil
}

func (r *JSON) readTree(d *document) (err error) {
	leaf := d.Parts
	if leaf == nil {
		leaf = d.PartsCamel
	}
	switch ofSignature := d.OfSignature || d.OfSignCamel; {
	case leaf == nil && d.Leaf == "" || leaf != nil && d.Leaf != "" || d.Parts != nil && d.PartsCamel != nil:
		return errors.New("it has not exactly one leaf")
	case ofSignature != (leaf == nil):
		return errors.New("is_signature_transaction does not fit the leaf")
	case leaf == nil:
		if r.LeafHash, err = hexDigest(d.Leaf); err != nil {
			return fmt.Errorf("leaf: %w", err)
		}
	default:
		if r.Leaf, err = leaf.read(); err != nil {
			return fmt.Errorf("leaf_components: %w", err)
		}
		r.LeafHash = r.Leaf.Hash()
	}
	if len(d.Proof) > maxPath || len(d.Proof) == 0 && r.Leaf != nil {
		return fmt.Errorf("proof: it has %d steps, want 1 to %d", len(d.Proof), maxPath)
	}
	for i, s := range d.Proof {
		text, err := either(s.Left, s.Right)
		step := Step{Left: s.Left != ""}
		if err == nil {
			step.Hash, err = hexDigest(text)
		}
		if err != nil {
			return fmt.Errorf("proof[%d]: %w", i, err)
		}
		r.Path = append(r.Path, step)
	}
	return nil
}

func (d *leafDocument) read() (*Leaf, error) {
	var l Leaf
	for _, f := range []struct {
		name, snake, camel string
		to                 *[sha256.Size]byte
	}{
		{"write_set_digest", d.WriteSet, d.WriteSetCamel, &l.WriteSet},
		{"claims_digest", d.Claims, d.ClaimsCamel, &l.Claims},
	} {
		text, err := either(f.snake, f.camel)
		if err == nil {
			*f.to, err = hexDigest(text)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	evidence, err := either(d.Evidence, d.EvidenceCamel)
	if err != nil || len(evidence) > maxEvidence {
		return nil, fmt.Errorf("commit_evidence: it is not a text of 1 to %d bytes", maxEvidence)
	}
	l.CommitEvidence = evidence
	return &l, nil
}

// either returns the one of two that is there.
func either(a, b string) (string, error) {
	if (a == "") == (b == "") {
		return "", errors.New("it is missing, or there twice")
	}
	return a + b, nil
}

func hexDigest(s string) (d [sha256.Size]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(d) {
		return d, fmt.Errorf("it is not %d hexadecimal digits", 2*len(d))
	}
	return [sha256.Size]byte(b), nil
}

func certificate(text string) (*x509.Certificate, error) {
	der, err := strictpem.Certificate([]byte(text))
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// ErrNode says that the node that signed is not one of the service.
var ErrNode = errors.New("the signing node is not endorsed by the service")

// Verify checks that a node of the service signed a root in which the receipt holds, and, where the answer tells the
// application's claims, that they are those of the leaf. The validity of the certificates does not count: a ledger's
// word is for long after.
func (r *JSON) Verify(service *x509.Certificate) error {
	err := r.VerifySignature()
	if err != nil {
		return err
	}
	if service == nil {
		return fmt.Errorf("verifying receipt: %w: no service certificate is given", ErrNode)
	}
	by := append(r.Endorsements[:len(r.Endorsements):len(r.Endorsements)], service)
	endorsed := r.Node
	for i, c := range by {
		err = endorsed.CheckSignatureFrom(c)
		if err != nil {
			return fmt.Errorf("verifying receipt: %w: endorsement %d: %w", ErrNode, i, err)
		}
		endorsed = c
	}
	return nil
}

// VerifySignature is Verify without looking for who endorsed the node: anybody can make a receipt that passes.
func (r *JSON) VerifySignature() error {
	key, ok := r.Node.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("verifying receipt: node has a key of type %T, want one on P-256 or P-384", r.Node.PublicKey)
	}
	id, err := KeyID(key)
	if err != nil {
		return fmt.Errorf("verifying receipt: %w", err)
	}
	if id != hex.EncodeToString(r.NodeID[:]) {
		return fmt.Errorf("verifying receipt: node_id is %x, and the SHA-256 of the node's key %s", r.NodeID, id)
	}
	root := r.Root()
	if !ecdsa.VerifyASN1(key, root[:], r.signature) { // the root is signed as if it were a hash, also with P-384
		return fmt.Errorf("verifying receipt: %w: root is %x", ErrSignature, root)
	}
	return r.verifyClaims()
}

func (r *JSON) verifyClaims() error {
	if len(r.Claims) == 0 {
		return nil
	}
	if r.Leaf == nil {
		return errors.New("verifying receipt: a signature transaction has no claims")
	}
	want, err := ClaimsDigest(r.Claims)
	if err != nil {
		return fmt.Errorf("verifying receipt: %w", err)
	}
	if want != r.Leaf.Claims {
		return fmt.Errorf("verifying receipt: %w: claims digest is %x, that of the claims %x", ErrOtherStatement, r.Leaf.Claims, want)
	}
	return nil
}
