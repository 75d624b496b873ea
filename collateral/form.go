// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"cofferdam.dev/internal/strictpem"
)

// Window is the period that an item's issuer gives it: of validity for certificates, from issue to next update for all
// else. Both ends are part of it.
type Window struct{ From, Until time.Time }

// Inspect checks that an item has the form of what was asked for and returns its period. No signature is checked: this
// keeps error pages and mix-ups out of caches, and attackers out of nothing.
func Inspect(r Request, it Item) (Window, error) {
	w, err := inspect(r, it)
	if err != nil {
		return Window{}, fmt.Errorf("form of %s: %w", r.Name(), err)
	}
	return w, nil
}

func inspect(r Request, it Item) (Window, error) {
	if err := r.Validate(); err != nil {
		return Window{}, err
	}
	if len(it.Body) == 0 || len(it.Body) > MaxBodySize || len(it.IssuerChain) > MaxIssuerChainSize {
		return Window{}, fmt.Errorf("body and issuer chain have %d and %d bytes, not 1 to %d and at most %d",
			len(it.Body), len(it.IssuerChain), MaxBodySize, MaxIssuerChainSize)
	}
	var w Window
	var err error
	chain := 0 // certificates of the issuer chain
	switch r.Kind {
	case AMDVCEK:
		w, err = certificateWindow(it.Body)
	case AMDChain:
		w, err = chainWindow(it.Body, 2)
	case AMDCRL, IntelRootCRL:
		w, err = listWindow(it.Body)
	case IntelPCKCRL:
		if len(it.IssuerChain) != 0 { // evidence has the issuer's certificate, too: the chain may be left out
			chain = 2
		}
		w, err = listWindow(it.Body)
	case IntelTCBInfo:
		chain = 2
		w, err = tcbInfoWindow(r, it.Body)
	case IntelQEIdentity:
		chain = 2
		w, err = identityWindow(r, it.Body)
	}
	if err != nil {
		return Window{}, err
	}
	if chain == 0 && len(it.IssuerChain) != 0 {
		return Window{}, errors.New("it has an issuer chain")
	}
	if chain != 0 {
		if _, err := chainWindow(it.IssuerChain, chain); err != nil {
			return Window{}, fmt.Errorf("issuer chain: %w", err)
		}
	}
	return w, nil
}

func certificateWindow(der []byte) (Window, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return Window{}, err
	}
	return Window{From: cert.NotBefore, Until: cert.NotAfter}, nil
}

// chainWindow reads n certificates in PEM with nothing but white space around them. Their period is the time that all
// share.
func chainWindow(text []byte, n int) (Window, error) {
	var w Window
	list, err := strictpem.Certificates(text, n)
	if err == nil && len(list) != n {
		err = fmt.Errorf("it has %d certificates in PEM, not %d", len(list), n)
	}
	if err != nil {
		return Window{}, err
	}
	for i, der := range list {
		one, err := certificateWindow(der)
		if err != nil {
			return Window{}, err
		}
		if i == 0 || one.From.After(w.From) {
			w.From = one.From
		}
		if i == 0 || one.Until.Before(w.Until) {
			w.Until = one.Until
		}
	}
	return w, nil
}

func listWindow(der []byte) (Window, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return Window{}, err
	}
	if len(list.Raw) != len(der) { // the parser does not look
		return Window{}, fmt.Errorf("%d bytes follow it", len(der)-len(list.Raw))
	}
	if list.NextUpdate.IsZero() {
		return Window{}, errors.New("it has no next update")
	}
	return Window{From: list.ThisUpdate, Until: list.NextUpdate}, nil
}

// statement are the members that Intel's signed statements share.
type statement struct {
	ID               string    `json:"id"`
	IssueDate        time.Time `json:"issueDate"`
	NextUpdate       time.Time `json:"nextUpdate"`
	FMSPC            string    `json:"fmspc"`
	EvaluationNumber int       `json:"tcbEvaluationDataNumber"`
}

func tcbInfoWindow(r Request, body []byte) (Window, error) {
	var doc struct {
		TCBInfo   *statement `json:"tcbInfo"`
		Signature string     `json:"signature"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return Window{}, err
	}
	if doc.TCBInfo == nil {
		return Window{}, errors.New("it has no tcbInfo")
	}
	if want := hex.EncodeToString(r.FMSPC[:]); !strings.EqualFold(doc.TCBInfo.FMSPC, want) {
		return Window{}, fmt.Errorf("its fmspc is %q, not %s", doc.TCBInfo.FMSPC, want)
	}
	// Version 2 was for SGX alone and names no TEE.
	if want := strings.ToUpper(r.TEE); doc.TCBInfo.ID != want && (doc.TCBInfo.ID != "" || r.TEE != SGX) {
		return Window{}, fmt.Errorf("its id is %q, not %s", doc.TCBInfo.ID, want)
	}
	return doc.TCBInfo.window(r, doc.Signature)
}

func identityWindow(r Request, body []byte) (Window, error) {
	var doc struct {
		Identity  *statement `json:"enclaveIdentity"`
		Signature string     `json:"signature"`
	}
	if err := json.Unmarshal(body, &doc); err != nil {
		return Window{}, err
	}
	if doc.Identity == nil {
		return Window{}, errors.New("it has no enclaveIdentity")
	}
	want := "QE"
	if r.TEE == TDX {
		want = "TD_QE"
	}
	if doc.Identity.ID != want {
		return Window{}, fmt.Errorf("its id is %q, not %s", doc.Identity.ID, want)
	}
	return doc.Identity.window(r, doc.Signature)
}

func (s *statement) window(r Request, signature string) (Window, error) {
	switch {
	case len(signature) != 128: // two 32-byte numbers in hexadecimal
		return Window{}, fmt.Errorf("its signature has %d digits, not 128", len(signature))
	case s.IssueDate.IsZero() || s.NextUpdate.IsZero():
		return Window{}, errors.New("it has no issueDate or no nextUpdate")
	case r.EvaluationNumber != 0 && s.EvaluationNumber != r.EvaluationNumber:
		return Window{}, fmt.Errorf("its tcbEvaluationDataNumber is %d, not %d", s.EvaluationNumber, r.EvaluationNumber)
	}
	return Window{From: s.IssueDate, Until: s.NextUpdate}, nil
}
