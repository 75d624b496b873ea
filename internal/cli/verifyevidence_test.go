// SPDX-License-Identifier: Apache-2.0

package cli

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
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"cofferdam.dev/internal/testcap"
)

// TestEvidenceScripts judges the published vectors.
func TestEvidenceScripts(t *testing.T) {
	t.Parallel()
	vectors := testcap.Vectors(t, "")
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "evidence"),
		UpdateScripts:       *update,
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("COFFERDAM_HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("VECTORS", vectors)
			return nil
		},
	})
}

// makeKey is the program mkkey PRIVATE PUBLIC: it makes a key to sign bundles with.
func makeKey() {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err == nil {
		private, err1 := x509.MarshalPKCS8PrivateKey(key)
		public, err2 := x509.MarshalPKIXPublicKey(&key.PublicKey)
		err = errors.Join(err1, err2,
			os.WriteFile(os.Args[1], pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
			os.WriteFile(os.Args[2], pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}), 0o600))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
