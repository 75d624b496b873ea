// SPDX-License-Identifier: Apache-2.0

// Package rcar holds the messages of the key broker protocol of Confidential Containers, in which a guest gets secrets:
// request, challenge, attestation, response. It takes requests apart, brings each kind of evidence into the form in which
// it is verified, makes the bytes that the evidence must be bound to, and encrypts what is released to the guest's key.
//
// It trusts nothing: every message is hostile, bounded, and read strictly. It never decides what evidence is worth, and it
// keeps no state: package kbs does.
package rcar

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"cofferdam.dev/internal/strictjson"
)

// Version is the version of the protocol. Others differ in how the evidence is bound or what is encrypted, so that no two
// can be served as one.
const Version = "0.4.0"

// Limits of messages in bytes.
const (
	// MaxRequest bounds a request.
	MaxRequest = 16 << 10
	// MaxAttestation bounds an attestation: bytes are arrays of numbers in it, up to four characters each, and a log of
	// events may come with a quote.
	MaxAttestation = 2 << 20

	maxText     = 512
	maxInitData = 256 << 10
)

// TEE is a kind of evidence by its name in the protocol.
type TEE string

// The kinds that can be verified.
const (
	SNP      TEE = "snp"
	TDX      TEE = "tdx"
	SGX      TEE = "sgx"
	AzureSNP TEE = "az-snp-vtpm"
	AzureTDX TEE = "az-tdx-vtpm"
)

// aliases are names that older clients have for kinds.
var aliases = map[string]TEE{
	"snp": SNP, "tdx": TDX, "sgx": SGX, "az-snp-vtpm": AzureSNP, "az-tdx-vtpm": AzureTDX, "azsnpvtpm": AzureSNP, "aztdxvtpm": AzureTDX,
}

// Errors of ParseRequest that an answer tells apart.
var (
	ErrVersion = errors.New("the protocol version is not supported")
	ErrTEE     = errors.New("evidence of this kind can not be verified")
)

// ParseTEE returns the kind with a name. The error wraps ErrTEE.
func ParseTEE(name string) (TEE, error) {
	if tee, ok := aliases[name]; ok {
		return tee, nil
	}
	return "", fmt.Errorf("%w: %s, not %s", ErrTEE, quote(name), strings.Join([]string{string(SNP), string(TDX), string(SGX), string(AzureSNP), string(AzureTDX)}, ", "))
}

// ParseRequest reads the request with which a guest begins, and returns the kind of its evidence. Parameters of other
// kinds of evidence may be there (extra-params), and mean nothing to those that are verified.
func ParseRequest(b []byte) (TEE, error) {
	tee, err := parseRequest(b)
	if err != nil {
		return "", fmt.Errorf("reading the request: %w", err)
	}
	return tee, nil
}

func parseRequest(b []byte) (TEE, error) {
	if len(b) > MaxRequest {
		return "", fmt.Errorf("it has more than %d bytes", MaxRequest)
	}
	o, err := strictjson.Parse(b)
	if err != nil {
		return "", err
	}
	if err := o.Only("version", "tee", "extra-params"); err != nil {
		return "", err
	}
	version, err := o.Text("version")
	if err != nil {
		return "", err
	}
	if version != Version {
		return "", fmt.Errorf("%w: expect %s while the request is %s", ErrVersion, Version, quote(version))
	}
	name, err := o.Text("tee")
	if err != nil {
		return "", err
	}
	return ParseTEE(name)
}

// quote shows a text of a client, shortened.
func quote(s string) string {
	const most = 40
	if len(s) > most {
		s = s[:most] + "…"
	}
	return fmt.Sprintf("%q", s)
}

// Challenge returns the answer to a request.
func Challenge(nonce string) []byte {
	// Without parameters, an empty string stands for them. Clients then bind their evidence with SHA-384.
	b, err := json.Marshal(map[string]string{"nonce": nonce, "extra-params": ""})
	if err != nil {
		return nil // strings always encode
	}
	return b
}

// Attestation is what a guest sends to prove what it is.
type Attestation struct {
	// Nonce is the challenge that the guest answers.
	Nonce string
	// Key is the guest's key, to which secrets are encrypted.
	Key *Key
	// RuntimeData is what the evidence must be made for, in its one form: its SHA-384 is the report data.
	RuntimeData []byte
	// InitData is what the guest was launched with, or nil when it does not say.
	InitData *InitData
	// Evidence is in the form in which it is verified.
	Evidence Evidence
}

// ParseAttestation reads an attestation with evidence of a kind.
func ParseAttestation(tee TEE, b []byte) (*Attestation, error) {
	a, err := parseAttestation(tee, b)
	if err != nil {
		return nil, fmt.Errorf("reading the attestation: %w", err)
	}
	return a, nil
}

func parseAttestation(tee TEE, b []byte) (*Attestation, error) {
	if len(b) > MaxAttestation {
		return nil, fmt.Errorf("it has more than %d bytes", MaxAttestation)
	}
	o, err := strictjson.Parse(b)
	if err != nil {
		return nil, err
	}
	if err := o.Only("init-data", "runtime-data", "tee-evidence"); err != nil {
		return nil, err
	}
	a := &Attestation{}
	if a.InitData, err = parseInitData(o); err != nil {
		return nil, fmt.Errorf("init-data: %w", err)
	}
	runtime, err := o.Object("runtime-data")
	if err != nil {
		return nil, err
	}
	if err := a.runtime(runtime); err != nil {
		return nil, fmt.Errorf("runtime-data: %w", err)
	}
	composite, err := o.Object("tee-evidence")
	if err != nil {
		return nil, err
	}
	if err := a.evidence(tee, composite); err != nil {
		return nil, fmt.Errorf("tee-evidence: %w", err)
	}
	return a, nil
}

func (a *Attestation) runtime(o strictjson.Object) error {
	err := o.Only("nonce", "tee-pubkey")
	if err != nil {
		return err
	}
	if a.Nonce, err = o.Text("nonce"); err != nil {
		return err
	}
	if len(a.Nonce) > maxText {
		return fmt.Errorf("the nonce has more than %d bytes", maxText)
	}
	key, err := o.Object("tee-pubkey")
	if err != nil {
		return err
	}
	a.Key, err = parseKey(key)
	if err != nil {
		return fmt.Errorf("tee-pubkey: %w", err)
	}
	return nil
}

// evidence reads the evidence, and makes the runtime data, of which evidence of further devices is a part. There is nobody
// here to verify such evidence, so a guest that sends some is refused rather than half verified.
func (a *Attestation) evidence(tee TEE, o strictjson.Object) error {
	err := o.Only("primary_evidence", "additional_evidence")
	if err != nil {
		return err
	}
	additional, err := o.Text("additional_evidence")
	if err != nil {
		return err
	}
	if additional != "" && additional != "{}" {
		return errors.New("there is evidence of additional devices, which can not be verified")
	}
	if a.RuntimeData, err = a.canonical(additional); err != nil {
		return err
	}
	if !o.Has("primary_evidence") {
		return errors.New(`"primary_evidence" is not there`)
	}
	a.Evidence, err = parseEvidence(tee, o["primary_evidence"])
	if err != nil {
		return fmt.Errorf("primary_evidence: %w", err)
	}
	return nil
}

// canonical returns the runtime data: the nonce, the key's members as they are spelt, and the additional evidence.
func (a *Attestation) canonical(additional string) ([]byte, error) {
	key := map[string]any{}
	for name, value := range a.Key.members {
		key[name] = value
	}
	return Canonical(map[string]any{"additional-evidence": additional, "nonce": a.Nonce, "tee-pubkey": key})
}
