// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"context"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"cofferdam.dev/evidence/snp"
)

// KindTEE is a root that one machine gives to one measured guest.
const KindTEE = "tee"

// Deriver is the guest's secure processor, as package attest opens it. Its kind is written down, so that what a simulated
// one sealed is never taken for more.
type Deriver interface {
	Kind() string
	DeriveKey(ctx context.Context, r snp.KeyRequest) (snp.DerivedKey, error)
}

// teeSeal is what a root file says of the key that it is under.
type teeSeal struct {
	Provider string `json:"provider"`
	// The rest is the request for the key (SNP ABI, MSG_KEY_REQ).
	Fields   uint64 `json:"fields"`
	VMPL     uint32 `json:"vmpl"`
	GuestSVN uint32 `json:"guestSvn"`
	TCB      []byte `json:"tcb"`
	Salt     []byte `json:"salt"`
}

// TEEOptions say what a sealed root is bound to, besides the chip, the guest's launch measurement and its guest policy.
//
// The processor does not mix HOST_DATA into derived keys: guests that differ in nothing but their execution policy get the
// same key. A root must be sealed only in a guest whose measurement fixes what runs in it.
type TEEOptions struct {
	// VMPL is that of the guest that asks.
	VMPL uint32
	// TCB is the committed firmware version below which the key can not be had again; zero is any.
	TCB snp.TCB
	// GuestSVN is the guest's security version below which the key can not be had again; zero is any.
	GuestSVN uint32
}

// bound are the properties of the guest that a key always depends on.
const bound = snp.FieldMeasurement | snp.FieldPolicy

func (t *teeSeal) request() (snp.KeyRequest, error) {
	if t == nil || len(t.Salt) < saltSize || len(t.TCB) != len(snp.TCB{}) {
		return snp.KeyRequest{}, errors.New("it does not say what it is bound to")
	}
	fields := snp.FieldSelect(t.Fields)
	if fields&bound != bound || fields.Unknown() != 0 {
		return snp.KeyRequest{}, fmt.Errorf("it is bound to fields %#x of the guest, which are not at least %#x", t.Fields, uint64(bound))
	}
	return snp.KeyRequest{RootKey: snp.RootKeyVCEK, Fields: fields, VMPL: t.VMPL, GuestSVN: t.GuestSVN, TCB: snp.TCB(t.TCB)}, nil
}

// key asks the processor for the key that the root is under.
func (t *teeSeal) key(ctx context.Context, tee Deriver) (*Secret, error) {
	if t.Provider != tee.Kind() {
		return nil, fmt.Errorf("it was sealed by %q, and this is %q", t.Provider, tee.Kind())
	}
	r, err := t.request()
	if err != nil {
		return nil, err
	}
	derived, err := tee.DeriveKey(ctx, r)
	if err != nil {
		return nil, err
	}
	defer clear(derived[:])
	b, err := hkdf.Key(sha256.New, derived[:], t.Salt, "cofferdam.dev/vault-root/tee/v1", RootKeySize)
	if err != nil {
		return nil, err
	}
	return NewSecret(b), nil
}

// CreateTEE makes a root with a random key, and keeps it in a new file that only this guest on this chip can open.
func CreateTEE(ctx context.Context, path string, tee Deriver, opts TEEOptions) (*Memory, error) {
	fields := bound
	if opts.TCB != (snp.TCB{}) {
		fields |= snp.FieldTCB
	}
	if opts.GuestSVN != 0 {
		fields |= snp.FieldGuestSVN
	}
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	t := &teeSeal{tee.Kind(), uint64(fields), opts.VMPL, opts.GuestSVN, opts.TCB[:], salt}
	root := NewRootKey()
	defer root.Destroy()
	key, err := t.key(ctx, tee)
	if err != nil {
		return nil, fmt.Errorf("making root %s: %w", path, err)
	}
	defer key.Destroy()
	d := &document{Schema: fileSchema, Kind: KindTEE, TEE: t}
	if err = d.seal(key, root); err == nil {
		err = d.create(path)
	}
	if err != nil {
		return nil, fmt.Errorf("making root %s: %w", path, err)
	}
	return NewMemory(root, KindTEE)
}

// OpenTEE opens the root in a file. The error wraps ErrSealed when the guest or the chip is another.
func OpenTEE(ctx context.Context, path string, tee Deriver) (*Memory, error) {
	d, err := readDocument(path, KindTEE)
	if err != nil {
		return nil, fmt.Errorf("opening root %s: %w", path, err)
	}
	if _, err := d.TEE.request(); err != nil {
		return nil, fmt.Errorf("opening root %s: %w", path, err)
	}
	key, err := d.TEE.key(ctx, tee)
	if err != nil {
		return nil, fmt.Errorf("opening root %s: %w", path, err)
	}
	defer key.Destroy()
	m, err := d.open(key)
	if err != nil {
		return nil, fmt.Errorf("opening root %s: %w", path, err)
	}
	return m, nil
}
