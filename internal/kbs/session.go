// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/kbs/rcar"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/store"
	"cofferdam.dev/verify"
)

// A session is 16 random bytes, the kind of evidence, and 16 bytes of an HMAC over both and the nonce, which ties the two
// together without the broker keeping anything: nobody can fill its store by asking for challenges. The nonce is the
// attestation service's, which knows its own, when they end, and which were used. Once the evidence was accepted, the
// store has the session's token, until it is over.
const (
	sessionRandom = 16
	sessionMAC    = 16
	sessionSize   = sessionRandom + 1 + sessionMAC

	sessionKeyPath = "session-key"
	sessionPrefix  = "session/"
)

// tees are the kinds of evidence by their numbers in sessions, which never change.
var tees = []rcar.TEE{rcar.SNP, rcar.TDX, rcar.SGX, rcar.AzureSNP, rcar.AzureTDX}

// kindOf is what the attestation service calls a kind of evidence.
func kindOf(tee rcar.TEE) attestsvc.Kind {
	switch tee {
	case rcar.SNP:
		return attestsvc.SevSnpVM
	case rcar.TDX:
		return attestsvc.TdxVM
	case rcar.SGX:
		return attestsvc.SgxEnclave
	case rcar.AzureSNP, rcar.AzureTDX:
		return attestsvc.AzureGuest
	}
	return ""
}

// Session is what a guest needs to go on.
type Session struct {
	// ID is the value of its cookie.
	ID string
	// Expires is when it is over.
	Expires time.Time
	// Body is what is answered.
	Body []byte
}

// Begin answers a request with a challenge.
func (b *Broker) Begin(_ context.Context, request []byte) (*Session, error) {
	tee, err := rcar.ParseRequest(request)
	if err != nil {
		return nil, refuse(AttestationError, "%v", err)
	}
	nonce, until, err := b.opts.Service.Challenge(b.opts.Tenant)
	if err != nil {
		return nil, err
	}
	raw := make([]byte, sessionRandom, sessionSize)
	_, _ = rand.Read(raw) // never fails
	raw = append(raw, byte(slices.Index(tees, tee)))
	raw = append(raw, b.sessionMAC(raw, nonce)...)
	return &Session{base64.RawURLEncoding.EncodeToString(raw), until, rcar.Challenge(nonce)}, nil
}

// loadSessionKey returns the key that all instances share, and makes it when there is none.
func (b *Broker) loadSessionKey(ctx context.Context) (*seal.Secret, error) {
	key := seal.NewRootKey().Expose()
	err := b.opts.Store.Update(ctx, func(tx store.Tx) error {
		there, err := tx.Get(sessionKeyPath)
		if errors.Is(err, store.ErrNotFound) {
			return tx.Put(sessionKeyPath, key)
		}
		if err == nil {
			key = there
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the key of sessions: %w", err)
	}
	return seal.NewSecret(key), nil
}

func (b *Broker) sessionMAC(head []byte, nonce string) []byte {
	h := hmac.New(sha256.New, b.sessionKey.Expose())
	_, _ = fmt.Fprintf(h, "cofferdam.dev/kbs-session/v1\x00%s\x00", b.opts.Tenant) // a hash never fails
	_, _ = h.Write(head)
	_, _ = h.Write([]byte(nonce))
	return h.Sum(nil)[:sessionMAC]
}

// parseSession takes a session apart.
func parseSession(id string) (head, mac []byte, tee rcar.TEE, err error) {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(id)
	if err != nil || len(raw) != sessionSize || int(raw[sessionRandom]) >= len(tees) {
		return nil, nil, "", refuse(AttestationError, "there is no such session: begin with a request for a challenge")
	}
	head = raw[:sessionRandom+1]
	return head, raw[sessionRandom+1:], tees[raw[sessionRandom]], nil
}

// Attest appraises the evidence with which a guest answers the challenge of a session. The body of the session that it
// returns has the token.
func (b *Broker) Attest(ctx context.Context, id string, body []byte) (*Session, error) {
	head, mac, tee, err := parseSession(id)
	if err != nil {
		return nil, err
	}
	a, err := rcar.ParseAttestation(tee, body)
	if err != nil {
		return nil, refuse(AttestationError, "%v", err)
	}
	if !hmac.Equal(mac, b.sessionMAC(head, a.Nonce)) {
		return nil, refuse(AttestationError, "the nonce is not that of the session")
	}
	r := &attestsvc.Request{
		Kind: kindOf(tee), Report: a.Evidence.Report, Certificates: a.Evidence.Certificates, EventLog: a.Evidence.EventLog,
		Runtime: &attestsvc.Data{Bytes: a.RuntimeData, JSON: true, Hash: crypto.SHA384},
		Nonce:   a.Nonce, Form: attestsvc.FormKBS, Life: TokenLife, ID: serve.RequestID(ctx),
	}
	if d := a.InitData; d != nil {
		r.InitTime = &attestsvc.Data{Bytes: d.Body, Hash: d.Hash}
	}
	answer, err := b.opts.Service.Attest(ctx, b.opts.Tenant, r)
	if err != nil {
		return nil, attestationError(err)
	}
	s := &Session{ID: id, Expires: b.opts.Now().Add(TokenLife).Truncate(time.Second).UTC()}
	if s.Body, err = json.Marshal(map[string]string{"token": answer.Token}); err != nil {
		return nil, fmt.Errorf("answering with a token: %w", err)
	}
	return s, b.keep(ctx, s, answer.Token)
}

// attestationError hides from the guest what was wrong with its evidence.
func attestationError(err error) error {
	var request *attestsvc.RequestError
	var refused *attestsvc.RefusedError
	var policy *attestsvc.PolicyError
	switch {
	case errors.As(err, &refused) && refused.Verdict.Outcome == verify.Undecided:
		return refuse(Undecided, "the evidence can not be decided about now; try again")
	case errors.As(err, &refused), errors.As(err, &policy):
		return refuse(AttestationError, "the evidence was not accepted")
	case errors.As(err, &request):
		return refuse(AttestationError, "the evidence can not be appraised: %s", request.Message)
	}
	return err
}

// attested is what the store has of a session.
type attested struct {
	Until int64  `json:"until"`
	Token string `json:"token"`
}

// sessionPath names a session in the store by its digest: whoever reads the store can not resume it.
func sessionPath(id string) string {
	sum := sha256.Sum256([]byte(id))
	return sessionPrefix + hex.EncodeToString(sum[:])
}

func (b *Broker) keep(ctx context.Context, s *Session, token string) error {
	raw, err := json.Marshal(attested{s.Expires.Unix(), token})
	if err != nil {
		return fmt.Errorf("keeping the session: %w", err)
	}
	err = b.opts.Store.Update(ctx, func(tx store.Tx) error { return tx.Put(sessionPath(s.ID), raw) })
	if err != nil {
		return fmt.Errorf("keeping the session: %w", err)
	}
	return nil
}

// tokenOf returns the token of a session, or nothing when there is none.
func (b *Broker) tokenOf(ctx context.Context, id string) (string, error) {
	if _, _, _, err := parseSession(id); err != nil {
		return "", nil //nolint:nilerr // another cookie is no session
	}
	var raw []byte
	err := b.opts.Store.View(ctx, func(r store.Reader) error {
		var err error
		raw, err = r.Get(sessionPath(id))
		return err
	})
	if errors.Is(err, store.ErrNotFound) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("looking for the session: %w", err)
	}
	var s attested
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("reading the session: %w", err)
	}
	if b.opts.Now().Unix() >= s.Until {
		return "", nil
	}
	return s.Token, nil
}

// sweep removes sessions that are over, and what is none.
func (b *Broker) sweep(ctx context.Context) error {
	now := b.opts.Now().Unix()
	return store.Sweep(ctx, b.opts.Store, sessionPrefix, func(e store.Entry) bool {
		var s attested
		return json.Unmarshal(e.Value, &s) != nil || now >= s.Until
	})
}
