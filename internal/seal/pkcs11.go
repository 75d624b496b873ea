// SPDX-License-Identifier: Apache-2.0

package seal

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"cofferdam.dev/internal/seal/hsmwire"
)

// KindPKCS11 is a root under a key in a hardware security module.
const KindPKCS11 = "pkcs11"

// helperWait bounds one operation of a module.
const helperWait = 30 * time.Second

// HSM is a key in a hardware security module, by way of the helper program cofferdam-pkcs11.
type HSM struct {
	// Helper is the path of the helper program, and Module that of the module's shared library.
	Helper, Module string
	// Token and Key are labels.
	Token, Key string
	// PIN is the user's PIN of the token. It goes to the helper on its standard input.
	PIN *Secret
}

// hsmSeal is what a root file says of the key that it is under.
type hsmSeal struct {
	Token string `json:"token"`
	Key   string `json:"key"`
}

// do has the helper do one operation.
func (h *HSM) do(ctx context.Context, op hsmwire.Operation, data, aad []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, helperWait)
	defer cancel()
	in, err := json.Marshal(hsmwire.Request{Module: h.Module, Token: h.Token, Key: h.Key, PIN: h.PIN.Expose(), Operation: op, Data: data, AAD: aad})
	if err != nil {
		return nil, err
	}
	defer clear(in)
	var out, complaint bytes.Buffer
	cmd := exec.CommandContext(ctx, h.Helper)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(in), &out, &complaint
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("helper %s: %w: %.200q", h.Helper, err, complaint.String())
	}
	defer func() { clear(out.Bytes()) }()
	var rsp hsmwire.Response
	if err := hsmwire.Read(bytes.NewReader(out.Bytes()), &rsp); err != nil {
		return nil, fmt.Errorf("helper %s: %w", h.Helper, err)
	}
	if rsp.Error != "" {
		return nil, fmt.Errorf("module: %s", rsp.Error)
	}
	return rsp.Data, nil
}

// CreatePKCS11 makes a root with a random key, and keeps it in a new file under a new key of the module. The module is
// asked when the root is opened, and not for each key that the root wraps.
func CreatePKCS11(ctx context.Context, path string, h *HSM) (*Memory, error) {
	m, err := createPKCS11(ctx, path, h)
	if err != nil {
		return nil, fmt.Errorf("making root %s: %w", path, err)
	}
	return m, nil
}

func createPKCS11(ctx context.Context, path string, h *HSM) (*Memory, error) {
	if _, err := os.Lstat(path); err == nil {
		return nil, fs.ErrExist // before the module has a key that nobody needs
	}
	root := NewRootKey()
	defer root.Destroy()
	d := &document{Schema: fileSchema, Kind: KindPKCS11, HSM: &hsmSeal{h.Token, h.Key}}
	aad, err := d.aad()
	if err != nil {
		return nil, err
	}
	if _, err := h.do(ctx, hsmwire.Create, nil, nil); err != nil {
		return nil, err
	}
	if d.Sealed, err = h.do(ctx, hsmwire.Encrypt, root.Expose(), aad); err != nil {
		return nil, err
	}
	// A root that could not be opened again would lose the vault.
	again, err := h.do(ctx, hsmwire.Decrypt, d.Sealed, aad)
	defer clear(again)
	if err != nil || !bytes.Equal(again, root.Expose()) {
		return nil, errors.Join(errors.New("the module does not give back what it encrypted"), err)
	}
	if err := d.create(path); err != nil {
		return nil, err
	}
	return NewMemory(root, KindPKCS11)
}

// OpenPKCS11 opens the root in a file. Token and key are those that the file names.
func OpenPKCS11(ctx context.Context, path string, h *HSM) (*Memory, error) {
	m, err := openPKCS11(ctx, path, h)
	if err != nil {
		return nil, fmt.Errorf("opening root %s: %w", path, err)
	}
	return m, nil
}

func openPKCS11(ctx context.Context, path string, h *HSM) (*Memory, error) {
	d, err := readDocument(path, KindPKCS11)
	if err != nil {
		return nil, err
	}
	if d.HSM == nil {
		return nil, errors.New("it does not name a token and a key")
	}
	named := *h
	named.Token, named.Key = d.HSM.Token, d.HSM.Key
	aad, err := d.aad()
	if err != nil {
		return nil, err
	}
	b, err := named.do(ctx, hsmwire.Decrypt, d.Sealed, aad)
	if err != nil {
		return nil, err
	}
	root := NewSecret(b)
	defer root.Destroy()
	return NewMemory(root, KindPKCS11)
}
