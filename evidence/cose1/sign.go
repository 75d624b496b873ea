// SPDX-License-Identifier: Apache-2.0

package cose1

import (
	"crypto"
	"errors"
	"fmt"
	"io"

	"cofferdam.dev/internal/cbor"
)

// Sign makes a message, tagged, of a payload and what its protected header shall say. The message is verified before it
// is returned: the chain must be one, the key must be its leaf's, and the issuer must resolve to it.
func Sign(random io.Reader, key crypto.Signer, h Header, payload []byte) ([]byte, error) {
	data, err := sign(random, key, h, payload)
	if err != nil {
		return nil, fmt.Errorf("making COSE_Sign1: %w", err)
	}
	m, err := Parse(data)
	if err == nil {
		err = m.Verify()
	}
	if err != nil {
		return nil, fmt.Errorf("checking what was made: %w", err)
	}
	return data, nil
}

func sign(random io.Reader, key crypto.Signer, h Header, payload []byte) ([]byte, error) {
	protected, err := h.encode()
	if err != nil {
		return nil, err
	}
	signature, err := h.Algorithm.sign(random, key, toBeSigned(protected, payload))
	if err != nil {
		return nil, err
	}
	b := cbor.AppendArray(cbor.AppendTag(nil, tagSign1), 4)
	b = cbor.AppendBytes(b, protected)
	b = cbor.AppendMap(b, nil)
	b = cbor.AppendBytes(b, payload)
	return cbor.AppendBytes(b, signature), nil
}

func (h *Header) encode() ([]byte, error) {
	entries := []cbor.Entry{{Key: number(labelAlgorithm), Value: number(int64(h.Algorithm))}}
	if h.ContentType != "" {
		entries = append(entries, cbor.Entry{Key: number(labelContentType), Value: text(h.ContentType)})
	}
	chain := cbor.AppendArray(nil, len(h.Chain))
	for _, c := range h.Chain {
		chain = cbor.AppendBytes(chain, c.Raw)
	}
	entries = append(entries, cbor.Entry{Key: number(labelChain), Value: chain})
	switch h.Form {
	case FormText:
		if h.SVN != nil {
			return nil, errors.New("a header with text keys has no place for an svn")
		}
		entries = append(entries, cbor.Entry{Key: text(textIssuer), Value: text(h.Issuer)}, cbor.Entry{Key: text(textFeed), Value: text(h.Feed)})
		if !h.IssuedAt.IsZero() {
			at := cbor.AppendInt(cbor.AppendTag(nil, tagEpoch), h.IssuedAt.Unix())
			entries = append(entries, cbor.Entry{Key: text(textSigningTime), Value: at})
		}
	case FormClaims:
		claims := []cbor.Entry{{Key: number(claimIssuer), Value: text(h.Issuer)}, {Key: number(claimSubject), Value: text(h.Feed)}}
		if !h.IssuedAt.IsZero() {
			claims = append(claims, cbor.Entry{Key: number(claimIssuedAt), Value: number(h.IssuedAt.Unix())})
		}
		if h.SVN != nil {
			claims = append(claims, cbor.Entry{Key: text(claimSVN), Value: number(*h.SVN)})
		}
		entries = append(entries, cbor.Entry{Key: number(labelClaims), Value: cbor.AppendMap(nil, claims)})
	default:
		return nil, errors.New("no form of naming the issuer is chosen")
	}
	return cbor.AppendMap(nil, entries), nil
}

func number(n int64) []byte { return cbor.AppendInt(nil, n) }

func text(s string) []byte { return cbor.AppendText(nil, s) }
