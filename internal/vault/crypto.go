// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"context"
	"slices"

	"cofferdam.dev/internal/seal"
)

// Algorithm is what an operation with a key is done with, by its name in Azure Key Vault, which is mostly that of JWA.
type Algorithm string

// The algorithms. RSA1_5 is not among them: a service that decrypts with it tells attackers about plaintexts. Neither is AES
// in CBC, which does not notice changes.
const (
	RSAOAEP    Algorithm = "RSA-OAEP"
	RSAOAEP256 Algorithm = "RSA-OAEP-256"
	A128GCM    Algorithm = "A128GCM"
	A192GCM    Algorithm = "A192GCM"
	A256GCM    Algorithm = "A256GCM"
	A128KW     Algorithm = "A128KW"
	A192KW     Algorithm = "A192KW"
	A256KW     Algorithm = "A256KW"
	AESKW      Algorithm = "CKM_AES_KEY_WRAP"
	AESKWP     Algorithm = "CKM_AES_KEY_WRAP_PAD"
	RS256      Algorithm = "RS256"
	RS384      Algorithm = "RS384"
	RS512      Algorithm = "RS512"
	PS256      Algorithm = "PS256"
	PS384      Algorithm = "PS384"
	PS512      Algorithm = "PS512"
	ES256      Algorithm = "ES256"
	ES384      Algorithm = "ES384"
	ES512      Algorithm = "ES512"
)

// maxInput bounds what is encrypted or decrypted in bytes.
const maxInput = 64 << 10

// Ciphertext is something encrypted or wrapped.
type Ciphertext struct {
	Algorithm Algorithm
	Value     []byte
	// IV, Tag and AAD belong to AES-GCM. The vault makes the IV.
	IV, Tag, AAD []byte
}

// Encrypt encrypts with a version of a key; an empty version is the current one. It returns the version with the result.
func (v *Vault) Encrypt(ctx context.Context, name, version string, a Algorithm, plaintext, aad []byte) (*Key, *Ciphertext, error) {
	return v.enclose(ctx, name, version, Encrypt, a, plaintext, aad)
}

// WrapKey is Encrypt for a key, under the operation of that name.
func (v *Vault) WrapKey(ctx context.Context, name, version string, a Algorithm, key []byte) (*Key, *Ciphertext, error) {
	return v.enclose(ctx, name, version, WrapKey, a, key, nil)
}

func (v *Vault) enclose(ctx context.Context, name, version string, op Operation, a Algorithm, plaintext, aad []byte) (k *Key, c *Ciphertext, err error) {
	k, err = v.use(ctx, name, version, op, a, func(m *opened) error {
		if len(plaintext) > maxInput || len(aad) > maxInput {
			return bad("What is encrypted has more than %d bytes.", maxInput)
		}
		c, err = m.encrypt(a, plaintext, aad)
		return err
	})
	return k, c, err
}

// Decrypt decrypts with a version of a key. The caller destroys the plaintext.
func (v *Vault) Decrypt(ctx context.Context, name, version string, c Ciphertext) (*Key, *seal.Secret, error) {
	return v.disclose(ctx, name, version, Decrypt, c)
}

// UnwrapKey is Decrypt for a key, under the operation of that name.
func (v *Vault) UnwrapKey(ctx context.Context, name, version string, c Ciphertext) (*Key, *seal.Secret, error) {
	return v.disclose(ctx, name, version, UnwrapKey, c)
}

func (v *Vault) disclose(ctx context.Context, name, version string, op Operation, c Ciphertext) (k *Key, plaintext *seal.Secret, err error) {
	k, err = v.use(ctx, name, version, op, c.Algorithm, func(m *opened) error {
		if len(c.Value) > 2*maxInput || len(c.AAD) > maxInput {
			return bad("What is decrypted has more than %d bytes.", 2*maxInput)
		}
		b, err := m.decrypt(c)
		if err != nil {
			// One answer for everything that can be wrong with a ciphertext.
			return bad("The ciphertext can not be decrypted with this key and algorithm.")
		}
		plaintext = seal.NewSecret(b)
		return nil
	})
	return k, plaintext, err
}

// Sign signs a digest, which the caller made with the algorithm's hash.
func (v *Vault) Sign(ctx context.Context, name, version string, a Algorithm, digest []byte) (k *Key, signature []byte, err error) {
	k, err = v.use(ctx, name, version, Sign, a, func(m *opened) error {
		signature, err = m.sign(a, digest)
		return err
	})
	return k, signature, err
}

// Verify reports whether a signature over a digest is one of the key.
func (v *Vault) Verify(ctx context.Context, name, version string, a Algorithm, digest, signature []byte) (k *Key, ok bool, err error) {
	k, err = v.use(ctx, name, version, Verify, a, func(m *opened) error {
		ok, err = m.verify(a, digest, signature)
		return err
	})
	return k, ok, err
}

// opened is a key whose material is at hand.
type opened struct {
	rec      record
	material *seal.Secret
}

// use does something with a key if its rules permit it, and records it before the result leaves. Ciphertexts and signatures
// outlive the time in which a key may make them, so what only reads them does not ask for the time.
func (v *Vault) use(ctx context.Context, name, version string, op Operation, a Algorithm, do func(*opened) error) (*Key, error) {
	kind, path := "key."+string(op), "key/"+name
	o, rec, material, err := v.read(ctx, keys, name, version)
	if err != nil {
		return nil, v.refused(ctx, kind, path, err)
	}
	defer material.Destroy()
	path = "key/" + o.head.Name + "/" + rec.Version
	err = rec.usable(keys, name, v.opts.Now())
	if reads := op == Decrypt || op == UnwrapKey || op == Verify; reads && rec.Attributes.Enabled {
		err = nil
	}
	if err == nil && !slices.Contains(rec.Operations, op) {
		err = &Error{Code: NotPermitted, Message: "Operation " + string(op) + " is not permitted on this key."}
	}
	if err == nil {
		err = do(&opened{rec, material})
	}
	if err != nil {
		return nil, v.refused(ctx, kind, path, err)
	}
	if _, err := v.Record(ctx, kind, path, true, string(a)); err != nil {
		return nil, err
	}
	return newKey(o, rec)
}
