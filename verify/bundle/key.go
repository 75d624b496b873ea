// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
)

// ParsePrivateKey reads the key of an appraiser from PEM: a P-256 key as PKCS #8 ("PRIVATE KEY") or SEC 1 ("EC PRIVATE
// KEY"). Parameters that OpenSSL writes before it are passed over.
func ParsePrivateKey(text []byte) (*ecdsa.PrivateKey, error) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		var key any
		var err error
		switch block.Type {
		case "EC PARAMETERS":
			continue
		case "PRIVATE KEY":
			key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
		case "EC PRIVATE KEY":
			key, err = x509.ParseECPrivateKey(block.Bytes)
		default:
			return nil, fmt.Errorf("reading a private key: a PEM block is %q, not PRIVATE KEY or EC PRIVATE KEY", block.Type)
		}
		if err != nil {
			return nil, errors.New("reading a private key: it is malformed") // not the parser's words: they may quote it
		}
		k, ok := key.(*ecdsa.PrivateKey)
		if !ok || k.Curve != elliptic.P256() {
			return nil, errors.New("reading a private key: it is no ECDSA key on P-256")
		}
		return k, nil
	}
	return nil, errors.New("reading a private key: there is no PEM block")
}

// ParsePublicKey reads the key of an appraiser from PEM: a P-256 key ("PUBLIC KEY"), or that of a certificate, of which
// nothing else counts.
func ParsePublicKey(text []byte) (*ecdsa.PublicKey, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("reading a public key: there is no PEM block")
	}
	var key any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	default:
		err = fmt.Errorf("the PEM block is %q, not PUBLIC KEY or CERTIFICATE", block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a public key: %w", err)
	}
	k, ok := key.(*ecdsa.PublicKey)
	if !ok || k.Curve != elliptic.P256() {
		return nil, errors.New("reading a public key: it is no ECDSA key on P-256")
	}
	return k, nil
}
