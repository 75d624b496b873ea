// SPDX-License-Identifier: Apache-2.0

// Package kbstest is the guest's side of the key broker protocol for tests: a key, what evidence is bound to, and evidence
// in the JSON of those guests. It is written from the protocol's description and shares no code with the broker, so that
// the two can be held against each other.
//
// It trusts whoever tests, and nothing but tests imports it.
package kbstest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/go-jose/go-jose/v4"

	"cofferdam.dev/evidence/snp"
)

// Key is a guest's key.
type Key struct {
	// Private is an *rsa.PrivateKey or *ecdsa.PrivateKey.
	Private crypto.PrivateKey
	// Public is what the guest says of it: the members of a JWK.
	Public map[string]string
}

var b64 = base64.RawURLEncoding.EncodeToString

// NewKey makes a key: "RSA", or the name of a curve, of which P-256 and P-521 are those that guests have.
func NewKey(kind string) (*Key, error) {
	if kind == "RSA" {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		return &Key{key, map[string]string{"kty": "RSA", "alg": "RSA-OAEP-256", "n": b64(key.N.Bytes()), "e": "AQAB"}}, nil
	}
	curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[kind]
	if curve == nil {
		return nil, fmt.Errorf("no key of kind %q", kind)
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	half := (len(point) - 1) / 2
	public := map[string]string{"kty": "EC", "crv": kind, "alg": "ECDH-ES+A256KW", "x": b64(point[1 : 1+half]), "y": b64(point[1+half:])}
	return &Key{key, public}, nil
}

// Decrypt decrypts a resource.
func (k *Key) Decrypt(answer []byte) ([]byte, error) {
	algs := []jose.KeyAlgorithm{jose.KeyAlgorithm(k.Public["alg"])}
	jwe, err := jose.ParseEncryptedJSON(string(answer), algs, []jose.ContentEncryption{jose.A256GCM})
	if err != nil {
		return nil, err
	}
	return jwe.Decrypt(k.Private)
}

// ReportData is what a guest has its report made for: the SHA-384 of the runtime data with the members of each object
// sorted, which is what encoding/json makes of maps, and zeros.
func (k *Key) ReportData(nonce string) (data [64]byte, err error) {
	b, err := json.Marshal(map[string]any{"tee-pubkey": k.Public, "nonce": nonce, "additional-evidence": ""})
	sum := sha512.Sum384(b)
	copy(data[:], sum[:])
	return data, err
}

// Attestation is what a guest answers a challenge with. Table is the certificate table that comes with a report.
func (k *Key) Attestation(nonce string, report, table []byte) (map[string]any, error) {
	entries, err := snp.ParseCertificateTable(table)
	if err != nil {
		return nil, err
	}
	names := map[snp.GUID]string{snp.GUIDVCEK: "VCEK", snp.GUIDASK: "ASK", snp.GUIDARK: "ARK", snp.GUIDVLEK: "VLEK"}
	var chain []any
	for _, e := range entries {
		chain = append(chain, map[string]any{"cert_type": names[e.GUID], "data": numbers(e.Data)})
	}
	public := map[string]string{}
	for name, value := range k.Public {
		public[name] = value
	}
	return map[string]any{
		"init-data":    nil,
		"runtime-data": map[string]any{"nonce": nonce, "tee-pubkey": public},
		"tee-evidence": map[string]any{
			"primary_evidence":    map[string]any{"attestation_report": Report(report), "cert_chain": chain},
			"additional_evidence": "",
		},
	}, nil
}

func numbers(b []byte) []int {
	out := []int{}
	for _, v := range b {
		out = append(out, int(v))
	}
	return out
}

// Report writes a report of at least 1184 bytes as guests do, from the offsets of the ABI's table: bytes are arrays of
// numbers, words are numbers, and what a report's version lacks is null.
func Report(b []byte) map[string]any {
	le, cut := binary.LittleEndian, func(from, to int) []int { return numbers(b[from:to]) }
	version := le.Uint32(b)
	turin := string(b[0x1A8:0x1E0]) == string(make([]byte, 56)) // a chip ID of eight bytes
	if version >= 3 {
		turin = b[0x188] == 0x1a
	}
	tcb := func(at int) map[string]any {
		t := b[at : at+8]
		if turin {
			return map[string]any{"fmc": t[0], "bootloader": t[1], "tee": t[2], "snp": t[3], "microcode": t[7]}
		}
		return map[string]any{"fmc": nil, "bootloader": t[0], "tee": t[1], "snp": t[6], "microcode": t[7]}
	}
	firmware := func(at int) map[string]any { return map[string]any{"build": b[at], "minor": b[at+1], "major": b[at+2]} }
	m := map[string]any{
		"version": version, "guest_svn": le.Uint32(b[4:]), "policy": le.Uint64(b[8:]), "family_id": cut(0x10, 0x20), "image_id": cut(0x20, 0x30),
		"vmpl": le.Uint32(b[0x30:]), "sig_algo": le.Uint32(b[0x34:]), "current_tcb": tcb(0x38), "plat_info": le.Uint64(b[0x40:]),
		"key_info": le.Uint32(b[0x48:]), "report_data": cut(0x50, 0x90), "measurement": cut(0x90, 0xC0), "host_data": cut(0xC0, 0xE0),
		"id_key_digest": cut(0xE0, 0x110), "author_key_digest": cut(0x110, 0x140), "report_id": cut(0x140, 0x160), "report_id_ma": cut(0x160, 0x180),
		"reported_tcb": tcb(0x180), "cpuid_fam_id": nil, "cpuid_mod_id": nil, "cpuid_step": nil, "chip_id": cut(0x1A0, 0x1E0), "committed_tcb": tcb(0x1E0),
		"current": firmware(0x1E8), "committed": firmware(0x1EC), "launch_tcb": tcb(0x1F0), "launch_mit_vector": nil, "current_mit_vector": nil,
		"signature": map[string]any{"r": cut(0x2A0, 0x2E8), "s": cut(0x2E8, 0x330)},
	}
	if version >= 3 {
		m["cpuid_fam_id"], m["cpuid_mod_id"], m["cpuid_step"] = b[0x188], b[0x189], b[0x18A]
	}
	if version >= 5 {
		m["launch_mit_vector"], m["current_mit_vector"] = le.Uint64(b[0x1F8:]), le.Uint64(b[0x200:])
	}
	return m
}
