// SPDX-License-Identifier: Apache-2.0

//go:build cgo

// Command cofferdam-pkcs11 does one operation with a key in a hardware security module, for a vault whose root key is under
// it. It is a program of its own, because modules are shared libraries in C. See package hsmwire for what it reads and
// writes; it has no arguments.
package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/miekg/pkcs11"

	"cofferdam.dev/internal/seal/hsmwire"
)

// Sizes in bytes and bits of the one cipher that is used.
const (
	keySize  = 32
	ivSize   = 12
	tagBits  = 128
	maxFound = 2
)

func main() {
	var req hsmwire.Request
	var rsp hsmwire.Response
	err := hsmwire.Read(os.Stdin, &req)
	if err == nil {
		rsp.Data, err = run(&req)
	}
	clear(req.PIN)
	if err != nil {
		rsp = hsmwire.Response{Error: err.Error()}
	}
	if err := json.NewEncoder(os.Stdout).Encode(rsp); err != nil {
		os.Exit(1)
	}
}

// run does what the request asks for, in a session that ends with it.
func run(req *hsmwire.Request) ([]byte, error) {
	if req.Module == "" || req.Token == "" || req.Key == "" {
		return nil, errors.New("module, token and key must be named")
	}
	ctx := pkcs11.New(req.Module)
	if ctx == nil {
		return nil, fmt.Errorf("module %s can not be loaded", req.Module)
	}
	defer ctx.Destroy()
	if err := ctx.Initialize(); err != nil {
		return nil, fmt.Errorf("module %s: %w", req.Module, err)
	}
	defer func() { _ = ctx.Finalize() }() // the process ends
	slot, err := findToken(ctx, req.Token)
	if err != nil {
		return nil, err
	}
	session, err := ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return nil, fmt.Errorf("token %q: %w", req.Token, err)
	}
	defer func() { _ = ctx.CloseSession(session) }() // the process ends
	if err := ctx.Login(session, pkcs11.CKU_USER, string(req.PIN)); err != nil {
		return nil, fmt.Errorf("token %q: %w", req.Token, err)
	}
	keys, err := findKeys(ctx, session, req.Key)
	if err != nil {
		return nil, err
	}
	if req.Operation == hsmwire.Create {
		if len(keys) > 0 {
			return nil, fmt.Errorf("token %q has a key %q already", req.Token, req.Key)
		}
		return nil, create(ctx, session, req.Key)
	}
	if len(keys) != 1 {
		return nil, fmt.Errorf("token %q has %d keys %q, not one", req.Token, len(keys), req.Key)
	}
	return cipher(ctx, session, keys[0], req)
}

func findToken(ctx *pkcs11.Ctx, label string) (uint, error) {
	slots, err := ctx.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("listing tokens: %w", err)
	}
	var found []uint
	for _, slot := range slots {
		info, err := ctx.GetTokenInfo(slot)
		if err == nil && info.Label == label {
			found = append(found, slot)
		}
	}
	if len(found) != 1 {
		return 0, fmt.Errorf("there are %d tokens %q, not one", len(found), label)
	}
	return found[0], nil
}

func findKeys(ctx *pkcs11.Ctx, session pkcs11.SessionHandle, label string) ([]pkcs11.ObjectHandle, error) {
	err := ctx.FindObjectsInit(session, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_SECRET_KEY), pkcs11.NewAttribute(pkcs11.CKA_KEY_TYPE, pkcs11.CKK_AES),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label),
	})
	if err != nil {
		return nil, fmt.Errorf("looking for key %q: %w", label, err)
	}
	keys, _, err := ctx.FindObjects(session, maxFound)
	if err != nil {
		return nil, fmt.Errorf("looking for key %q: %w", label, err)
	}
	if err := ctx.FindObjectsFinal(session); err != nil {
		return nil, fmt.Errorf("looking for key %q: %w", label, err)
	}
	return keys, nil
}

// create makes a key that can encrypt and decrypt, and never leaves the module.
func create(ctx *pkcs11.Ctx, session pkcs11.SessionHandle, label string) error {
	_, err := ctx.GenerateKey(session, []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_KEY_GEN, nil)}, []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label), pkcs11.NewAttribute(pkcs11.CKA_VALUE_LEN, keySize),
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true), pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_ENCRYPT, true), pkcs11.NewAttribute(pkcs11.CKA_DECRYPT, true),
	})
	if err != nil {
		return fmt.Errorf("making key %q: %w", label, err)
	}
	return nil
}

func cipher(ctx *pkcs11.Ctx, session pkcs11.SessionHandle, key pkcs11.ObjectHandle, req *hsmwire.Request) ([]byte, error) {
	iv, data := make([]byte, ivSize), req.Data
	switch req.Operation {
	case hsmwire.Encrypt:
		_, _ = rand.Read(iv) // never fails
	case hsmwire.Decrypt:
		if len(data) < ivSize {
			return nil, errors.New("the ciphertext is too short")
		}
		copy(iv, data)
		data = data[ivSize:]
	default:
		return nil, fmt.Errorf("operation %q is unknown", req.Operation)
	}
	params := pkcs11.NewGCMParams(iv, req.AAD, tagBits)
	defer params.Free()
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_AES_GCM, params)}
	if req.Operation == hsmwire.Decrypt {
		if err := ctx.DecryptInit(session, mechanism, key); err != nil {
			return nil, fmt.Errorf("decrypting: %w", err)
		}
		out, err := ctx.Decrypt(session, data)
		if err != nil {
			return nil, fmt.Errorf("decrypting: %w", err)
		}
		return out, nil
	}
	if err := ctx.EncryptInit(session, mechanism, key); err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	out, err := ctx.Encrypt(session, data)
	if err != nil {
		return nil, fmt.Errorf("encrypting: %w", err)
	}
	// Some modules choose the IV themselves and put it into the parameters.
	return append(append([]byte{}, params.IV()...), out...), nil
}
