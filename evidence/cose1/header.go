// SPDX-License-Identifier: Apache-2.0

package cose1

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strconv"
	"time"

	"cofferdam.dev/evidence/didx509"
	"cofferdam.dev/internal/cbor"
)

// Labels of the protected header, and of the CWT claims in it.
const (
	labelAlgorithm   = 1
	labelCritical    = 2
	labelContentType = 3
	labelClaims      = 15 // RFC 9597
	labelChain       = 33 // RFC 9360

	claimIssuer   = 1
	claimSubject  = 2
	claimIssuedAt = 6
	claimSVN      = "svn"

	textIssuer      = "iss"
	textFeed        = "feed"
	textSigningTime = "signingtime"

	tagEpoch = 1
)

// latest is the last time that is taken for one: the end of the year 9999.
const latest = 253402300799

func (m *Message) readProtected() error {
	h, err := cbor.Decode(m.protected)
	if err != nil {
		return err
	}
	if h.Kind != cbor.Map {
		return fmt.Errorf("it is %s, want a map", h.Kind)
	}
	alg, _ := h.Lookup(labelAlgorithm)
	if alg.Kind != cbor.Int {
		return errors.New("it names no algorithm by number")
	}
	m.Header.Algorithm = Algorithm(alg.Int)
	if v, ok := h.Lookup(labelContentType); ok && v.Kind != cbor.Text && v.Kind != cbor.Int {
		return fmt.Errorf("content type is %s, want a text or a number", v.Kind)
	} else if ok {
		m.Header.ContentType = v.Text
	}
	if v, ok := h.Lookup(labelChain); ok {
		if m.Header.Chain, err = readChain(v); err != nil {
			return err
		}
	}
	if v, ok := h.Lookup(labelCritical); ok {
		if m.critical, err = readCritical(v, h); err != nil {
			return err
		}
	}
	return m.Header.readIssuer(h)
}

func readChain(v cbor.Item) (chain []*x509.Certificate, err error) {
	der := [][]byte{v.Bytes}
	switch v.Kind {
	case cbor.Bytes: // one certificate stands for itself
	case cbor.Array:
		der = der[:0]
		for _, c := range v.Items {
			if c.Kind != cbor.Bytes {
				return nil, fmt.Errorf("a certificate of x5chain is %s, want a byte string", c.Kind)
			}
			der = append(der, c.Bytes)
		}
	default:
		return nil, fmt.Errorf("x5chain is %s, want certificates", v.Kind)
	}
	if chain, err = didx509.ParseChain(der); err != nil {
		return nil, fmt.Errorf("x5chain: %w", err)
	}
	return chain, nil
}

// readCritical returns the labels that are marked critical and that nothing here makes sense of.
func readCritical(v, header cbor.Item) ([]string, error) {
	if v.Kind != cbor.Array || len(v.Items) == 0 {
		return nil, errors.New("crit is not an array with something in it")
	}
	var unknown []string
	for _, l := range v.Items {
		var present, understood bool
		name := l.Text
		switch l.Kind {
		case cbor.Int:
			_, present = header.Lookup(l.Int)
			name = strconv.FormatInt(l.Int, 10)
			understood = l.Int == labelAlgorithm || l.Int == labelContentType || l.Int == labelClaims || l.Int == labelChain
		case cbor.Text:
			_, present = header.LookupText(l.Text)
			understood = l.Text == textIssuer || l.Text == textFeed || l.Text == textSigningTime
		default:
			return nil, fmt.Errorf("a label in crit is %s", l.Kind)
		}
		if !present {
			return nil, fmt.Errorf("crit names %q, which is not in the header", name)
		}
		if !understood {
			unknown = append(unknown, name)
		}
	}
	return unknown, nil
}

// readIssuer reads issuer, feed, time and version in either form, but not in both.
func (h *Header) readIssuer(from cbor.Item) error {
	claims, byClaims := from.Lookup(labelClaims)
	issuer, byText := from.LookupText(textIssuer)
	feed, hasFeed := from.LookupText(textFeed)
	at, hasTime := from.LookupText(textSigningTime)
	byText = byText || hasFeed || hasTime
	switch {
	case byClaims && byText:
		return errors.New("it names an issuer, feed or time in two forms")
	case byText:
		h.Form = FormText
	case byClaims:
		if claims.Kind != cbor.Map {
			return fmt.Errorf("CWT claims are %s, want a map", claims.Kind)
		}
		h.Form = FormClaims
		issuer, _ = claims.Lookup(claimIssuer)
		feed, _ = claims.Lookup(claimSubject)
		at, hasTime = claims.Lookup(claimIssuedAt)
		if svn, ok := claims.LookupText(claimSVN); ok {
			if svn.Kind != cbor.Int || svn.Int < 0 {
				return errors.New("svn is not a number from 0 on")
			}
			h.SVN = &svn.Int
		}
	}
	for _, t := range []struct {
		name string
		item cbor.Item
		to   *string
	}{{"issuer", issuer, &h.Issuer}, {"feed", feed, &h.Feed}} {
		if t.item.Kind != 0 && t.item.Kind != cbor.Text {
			return fmt.Errorf("%s is %s, want a text", t.name, t.item.Kind)
		}
		*t.to = t.item.Text
	}
	if !hasTime {
		return nil
	}
	if at.Kind == cbor.Tag && at.Tag == tagEpoch {
		at = at.Items[0]
	}
	if at.Kind != cbor.Int || at.Int <= 0 || at.Int > latest {
		return errors.New("time of signing is not a number of seconds since 1970")
	}
	h.IssuedAt = time.Unix(at.Int, 0).UTC()
	return nil
}
