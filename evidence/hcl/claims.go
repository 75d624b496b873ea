// SPDX-License-Identifier: Apache-2.0

package hcl

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"

	"cofferdam.dev/internal/strictjson"
)

// Names of the keys in the claims.
const (
	// AttestationKey names the key with which the TPM signs quotes.
	AttestationKey = "HCLAkPub"
	// EndorsementKey names the key for which secrets can be sealed to the TPM.
	EndorsementKey = "HCLEkPub"
)

// Limits of the claims. A key's exponent is always 65537.
const (
	maxClaimKeys     = 8
	minKeyBits       = 2048
	maxKeyBits       = 4096
	exponent         = 65537
	userDataSize     = 64
	maxVMUniqueIDLen = 64
)

// Claims are what the paravisor says about the VM, in the text that the hardware report binds.
type Claims struct {
	// AttestationKey is the key with which the VM's TPM signs quotes.
	AttestationKey *rsa.PublicKey
	// EndorsementKey is the TPM's endorsement key; nil where the claims have none.
	EndorsementKey *rsa.PublicKey
	// VM is the VM's configuration.
	VM VMConfiguration
	// UserData is what the guest last asked to have in its report, 64 bytes, zeros if nothing.
	UserData [userDataSize]byte
}

// VMConfiguration is how the host configured the VM. What is absent from the claims is false or empty.
type VMConfiguration struct {
	// SecureBoot says that the firmware starts only what is signed by a key that it knows.
	SecureBoot bool
	// TPMEnabled says that the VM has a TPM, and TPMPersisted that its state survives a restart.
	TPMEnabled, TPMPersisted bool
	// ConsoleEnabled says that the VM has a serial console, which the host serves.
	ConsoleEnabled bool
	// RootCertThumbprint is the SHA-256, in base64url, of a certificate that the host provisioned; empty where there is none.
	RootCertThumbprint string
	// UniqueID is the VM's identifier with its operator.
	UniqueID string
}

// ParseClaims decodes the claims of a report. It knows the keys and fields that it needs, each of which may occur only
// once; it skips others, because they grow with each version of the paravisor and the text is bound as a whole.
func ParseClaims(text []byte) (*Claims, error) {
	c, err := parseClaims(text)
	if err != nil {
		return nil, fmt.Errorf("parsing HCL claims: %w", err)
	}
	return c, nil
}

func parseClaims(text []byte) (*Claims, error) {
	o, err := strictjson.Parse(text)
	if err != nil {
		return nil, err
	}
	c := &Claims{}
	err = c.readKeys(o)
	if err != nil {
		return nil, err
	}
	vm, err := o.Object("vm-configuration")
	if err != nil {
		return nil, err
	}
	err = c.VM.read(vm)
	if err != nil {
		return nil, fmt.Errorf("vm-configuration: %w", err)
	}
	user, err := o.Text("user-data")
	if err != nil {
		return nil, err
	}
	b, err := hex.DecodeString(user)
	if err != nil || len(b) != userDataSize {
		return nil, fmt.Errorf("user-data is not %d bytes in hexadecimal", userDataSize)
	}
	c.UserData = [userDataSize]byte(b)
	return c, nil
}

func (c *Claims) readKeys(o strictjson.Object) error {
	list, err := o.List("keys", maxClaimKeys)
	if err != nil {
		return err
	}
	for i, raw := range list {
		jwk, err := strictjson.Parse(raw)
		if err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
		kid, err := jwk.Text("kid")
		if err != nil {
			return fmt.Errorf("key %d: %w", i, err)
		}
		to, operation := &c.AttestationKey, "sign"
		switch kid {
		case AttestationKey:
		case EndorsementKey:
			to, operation = &c.EndorsementKey, "encrypt"
		default:
			continue
		}
		if *to != nil {
			return fmt.Errorf("key %s occurs twice", kid)
		}
		*to, err = readKey(jwk, operation)
		if err != nil {
			return fmt.Errorf("key %s: %w", kid, err)
		}
	}
	if c.AttestationKey == nil {
		return fmt.Errorf("there is no key %s", AttestationKey)
	}
	return nil
}

// readKey reads an RSA key in JWK form (RFC 7518, 6.3.1) that is for one operation alone.
func readKey(jwk strictjson.Object, operation string) (*rsa.PublicKey, error) {
	if kty, err := jwk.Text("kty"); err != nil || kty != "RSA" {
		return nil, errors.New("it is not of type RSA")
	}
	var operations []string
	err := json.Unmarshal(jwk["key_ops"], &operations)
	if err != nil || len(operations) != 1 || operations[0] != operation {
		return nil, fmt.Errorf("key_ops is not %q alone", operation)
	}
	var numbers [2]*big.Int
	for i, name := range []string{"n", "e"} {
		s, err := jwk.Text(name)
		if err != nil {
			return nil, err
		}
		b, err := decodeBase64URL(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		numbers[i] = new(big.Int).SetBytes(b)
	}
	n, e := numbers[0], numbers[1]
	if bits := n.BitLen(); bits < minKeyBits || bits > maxKeyBits || n.Bit(0) == 0 {
		return nil, fmt.Errorf("modulus has %d bits or is even, want an odd one of %d to %d", bits, minKeyBits, maxKeyBits)
	}
	if e.Cmp(big.NewInt(exponent)) != 0 {
		return nil, fmt.Errorf("exponent is not %d", exponent)
	}
	return &rsa.PublicKey{N: n, E: exponent}, nil
}

func (v *VMConfiguration) read(o strictjson.Object) error {
	for name, to := range map[string]*bool{
		"secure-boot": &v.SecureBoot, "tpm-enabled": &v.TPMEnabled, "tpm-persisted": &v.TPMPersisted,
		"console-enabled": &v.ConsoleEnabled,
	} {
		switch value := string(o[name]); value {
		case "true":
			*to = true
		case "false", "":
		default:
			return fmt.Errorf("%s is %s, not true or false", name, value)
		}
	}
	for name, to := range map[string]*string{"root-cert-thumbprint": &v.RootCertThumbprint, "vmUniqueId": &v.UniqueID} {
		if !o.Has(name) {
			continue
		}
		s, err := o.Text(name)
		if err != nil {
			return err
		}
		if len(s) > maxVMUniqueIDLen {
			return fmt.Errorf("%s has %d bytes, at most %d are allowed", name, len(s), maxVMUniqueIDLen)
		}
		*to = s
	}
	return nil
}

// decodeBase64URL accepts base64url in its one canonical form, with or without padding.
func decodeBase64URL(s string) ([]byte, error) {
	enc := base64.RawURLEncoding.Strict()
	if len(s)%4 == 0 && len(s) > 0 && s[len(s)-1] == '=' {
		enc = base64.URLEncoding.Strict()
	}
	b, err := enc.DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("decoding base64url: %w", err)
	}
	if enc.EncodeToString(b) != s { // the decoder skips line breaks
		return nil, errors.New("decoding base64url: it has line breaks")
	}
	return b, nil
}
