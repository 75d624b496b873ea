// SPDX-License-Identifier: Apache-2.0

package audit

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"cofferdam.dev/internal/wholefile"
)

// Files of a log below the state directory of a service.
const (
	stateLog    = "audit"
	stateKey    = "audit-key.secret"
	statePublic = "audit-key.pem"
)

// OpenState opens the log of a service below its state directory, with the key beside it that signs checkpoints. Both are
// made when they are missing. Instance names the writer; empty is the machine and the key.
func OpenState(state, instance string) (*Log, error) {
	key, err := openStateKey(state)
	if err != nil {
		return nil, fmt.Errorf("key of the audit log: %w", err)
	}
	// Two instances on one machine, or a container's name that is another at each start, must not look like one or be refused.
	id, err := KeyID(key)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "instance"
	}
	const most = 40
	return Open(filepath.Join(state, stateLog), Options{Instance: instance, NewInstance: fmt.Sprintf("%.*s-%.8s", most, host, id), Key: key})
}

// openStateKey reads the key, and makes it when there is none. The public key lies beside it.
func openStateKey(state string) (*ecdsa.PrivateKey, error) {
	key, err := loadStateKey(filepath.Join(state, stateKey))
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	err = wholefile.Replace(filepath.Join(state, statePublic), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644)
	return key, err
}

func loadStateKey(name string) (*ecdsa.PrivateKey, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		return key, wholefile.Replace(name, der, 0o600)
	}
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s has mode %v; want 0600", name, info.Mode().Perm())
	}
	parsed, err := x509.ParsePKCS8PrivateKey(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T, not an ECDSA key", name, parsed)
	}
	return key, nil
}
