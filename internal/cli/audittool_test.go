// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"time"

	"cofferdam.dev/internal/audit"
)

// makeAudit is the script command `mkaudit DIR KEY`: it writes an audit log of a few entries, and the public key.
func makeAudit() {
	err := func(dir, keyFile string) error {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return err
		}
		der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
		if err != nil {
			return err
		}
		if err = os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o600); err != nil {
			return err
		}
		l, err := audit.Open(dir, audit.Options{Instance: "test", Key: key, CheckpointEvery: 3, MaxFileSize: 1500})
		if err != nil {
			return err
		}
		for i := range 6 {
			if _, err = l.Append(context.Background(), "thing", map[string]int{"n": i}); err != nil {
				return err
			}
		}
		return l.Close()
	}(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// awaitFile is the script command `awaitfile PATH`: it waits until the file is there.
func awaitFile() {
	for end := time.Now().Add(4 * patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if _, err := os.Stat(os.Args[1]); err == nil {
			return
		}
	}
	fatalf("%s does not appear", os.Args[1])
}
