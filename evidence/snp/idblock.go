// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	"cofferdam.dev/evidence/internal/fixed"
)

// Sizes of the structures with which a guest's owner pins a launch. SNP ABI, section "SNP_LAUNCH_FINISH", tables "ID
// Block" and "ID Authentication Information Structure".
const (
	// IDBlockSize is the size of an ID block in bytes.
	IDBlockSize = 96
	// IDAuthSize is the size of ID authentication information in bytes.
	IDAuthSize = 4096
	// IDKeySize is the size of a public key in bytes, as its digest is taken.
	IDKeySize = 0x404

	idBlockVersion   = 1
	idSignatureSize  = 0x200
	idCurveP384      = 2
	offIDBlockSig    = 0x40
	offIDKey         = 0x240
	offIDKeySig      = 0x680
	offAuthorKey     = 0x880
	p384ComponentPad = signatureComponentSize - p384Size
)

// IDBlock is what a guest's owner says of a launch: the measurement and policy that it must have, and names for it that
// reports will carry.
type IDBlock struct {
	// Measurement is the launch digest that the guest must have.
	Measurement [48]byte
	// FamilyID, ImageID and GuestSVN are put into the guest's reports.
	FamilyID, ImageID [16]byte
	GuestSVN          uint32
	// Policy is the guest policy that the launch must have.
	Policy GuestPolicy
}

// Marshal encodes the block.
func (i *IDBlock) Marshal() []byte {
	le := binary.LittleEndian
	b := append(make([]byte, 0, IDBlockSize), i.Measurement[:]...)
	b = append(append(b, i.FamilyID[:]...), i.ImageID[:]...)
	b = le.AppendUint32(b, idBlockVersion)
	b = le.AppendUint32(b, i.GuestSVN)
	return le.AppendUint64(b, uint64(i.Policy))
}

// ParseIDBlock decodes a block of exactly IDBlockSize bytes.
func ParseIDBlock(b []byte) (*IDBlock, error) {
	if len(b) != IDBlockSize {
		return nil, fmt.Errorf("parsing ID block: size is %d bytes, not %d", len(b), IDBlockSize)
	}
	d := newDecoder(b)
	i := &IDBlock{Measurement: [48]byte(d.Next(48)), FamilyID: [16]byte(d.Next(16)), ImageID: [16]byte(d.Next(16))}
	version := d.U32()
	if version != idBlockVersion {
		return nil, fmt.Errorf("parsing ID block: version is %d, not %d", version, idBlockVersion)
	}
	i.GuestSVN, i.Policy = d.U32(), GuestPolicy(d.U64())
	return i, nil
}

// IDAuth is ID authentication information: who signed an ID block and who vouches for that key.
type IDAuth struct {
	// BlockSignature is the signature over the ID block by Key.
	BlockSignature IDSignature
	// Key is the ID key.
	Key IDKey
	// KeySignature is the signature over Key by AuthorKey. Both are zero when there is no author key.
	KeySignature IDSignature
	AuthorKey    IDKey
}

// IDKey is a public key as ID authentication information holds it. SNP ABI, table "Public Key Format".
type IDKey [IDKeySize]byte

// IDSignature is a signature as ID authentication information holds it. SNP ABI, table "Signature Format".
type IDSignature [idSignatureSize]byte

// NewIDKey encodes a public key of the curve P-384, the only one that the ABI has.
func NewIDKey(key *ecdsa.PublicKey) (IDKey, error) {
	if key.Curve != elliptic.P384() {
		return IDKey{}, fmt.Errorf("encoding ID key: curve is %s, not P-384", key.Curve.Params().Name)
	}
	point, err := key.Bytes() // 04h, x, y
	if err != nil {
		return IDKey{}, fmt.Errorf("encoding ID key: %w", err)
	}
	var k IDKey
	binary.LittleEndian.PutUint32(k[:], idCurveP384)
	putReversed(k[4:], point[1:1+p384Size])
	putReversed(k[4+signatureComponentSize:], point[1+p384Size:])
	return k, nil
}

// Public decodes the key. Bytes that the format reserves must be zero, and the point must be on the curve.
func (k IDKey) Public() (*ecdsa.PublicKey, error) {
	d := newDecoder(k[:])
	curve := d.U32()
	x, y := d.component(), d.component()
	d.Zero(IDKeySize)
	if d.Err != nil {
		return nil, fmt.Errorf("parsing ID key: %w", d.Err)
	}
	if curve != idCurveP384 {
		return nil, fmt.Errorf("parsing ID key: curve is %d, not %d", curve, idCurveP384)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), slices.Concat([]byte{4}, x, y))
	if err != nil {
		return nil, fmt.Errorf("parsing ID key: %w", err)
	}
	return key, nil
}

// Digest is what reports say of the key: the SHA-384 of its encoding.
func (k IDKey) Digest() [48]byte { return sha512.Sum384(k[:]) }

// NewIDSignature encodes a signature.
func NewIDSignature(r, s *big.Int) (IDSignature, error) {
	if r.Sign() < 1 || s.Sign() < 1 || r.BitLen() > 8*p384Size || s.BitLen() > 8*p384Size {
		return IDSignature{}, errors.New("encoding ID signature: a component is out of range")
	}
	var sig IDSignature
	putReversed(sig[:], r.FillBytes(make([]byte, p384Size)))
	putReversed(sig[signatureComponentSize:], s.FillBytes(make([]byte, p384Size)))
	return sig, nil
}

// Verify reports whether the signature is one of key over message: ECDSA with SHA-384. Bytes that the format reserves must
// be zero.
func (s IDSignature) Verify(key *ecdsa.PublicKey, message []byte) bool {
	d := newDecoder(s[:])
	r, ss := new(big.Int).SetBytes(d.component()), new(big.Int).SetBytes(d.component())
	d.Zero(idSignatureSize)
	digest := sha512.Sum384(message)
	return d.Err == nil && ecdsa.Verify(key, digest[:], r, ss)
}

// Marshal encodes the information.
func (a *IDAuth) Marshal() []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(make([]byte, 0, IDAuthSize), SignatureECDSAP384SHA384)
	author := uint32(0)
	if a.AuthorKey != (IDKey{}) {
		author = SignatureECDSAP384SHA384
	}
	b = le.AppendUint32(b, author)
	b = append(append(fixed.Pad(b, offIDBlockSig), a.BlockSignature[:]...), a.Key[:]...)
	b = append(fixed.Pad(b, offIDKeySig), a.KeySignature[:]...)
	return fixed.Pad(append(b, a.AuthorKey[:]...), IDAuthSize)
}

// ParseIDAuth decodes information of exactly IDAuthSize bytes. The keys and signatures in it are not looked into.
func ParseIDAuth(b []byte) (*IDAuth, error) {
	if len(b) != IDAuthSize {
		return nil, fmt.Errorf("parsing ID authentication: size is %d bytes, not %d", len(b), IDAuthSize)
	}
	d := newDecoder(b)
	key, author := d.U32(), d.U32()
	d.Zero(offIDBlockSig)
	a := &IDAuth{BlockSignature: IDSignature(d.Next(idSignatureSize)), Key: IDKey(d.Next(IDKeySize))}
	d.Zero(offIDKeySig)
	a.KeySignature, a.AuthorKey = IDSignature(d.Next(idSignatureSize)), IDKey(d.Next(IDKeySize))
	d.Zero(IDAuthSize)
	has := a.AuthorKey != (IDKey{})
	switch {
	case d.Err != nil:
		return nil, fmt.Errorf("parsing ID authentication: %w", d.Err)
	case key != SignatureECDSAP384SHA384:
		return nil, fmt.Errorf("parsing ID authentication: algorithm of the ID key is %d, not %d", key, SignatureECDSAP384SHA384)
	case has && author != SignatureECDSAP384SHA384, !has && author != 0:
		return nil, fmt.Errorf("parsing ID authentication: algorithm of the author key is %d, which does not fit", author)
	case !has && a.KeySignature != (IDSignature{}):
		return nil, errors.New("parsing ID authentication: the ID key is signed without an author key")
	}
	return a, nil
}

// component reads a number of 384 bits in a field of 576, little-endian, and returns it big-endian.
func (d *decoder) component() []byte {
	b := slices.Clone(d.Next(p384Size))
	slices.Reverse(b)
	d.Zero(d.Off + p384ComponentPad)
	return b
}

func putReversed(to, from []byte) {
	for i, v := range from {
		to[len(from)-1-i] = v
	}
}
