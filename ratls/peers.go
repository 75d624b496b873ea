// SPDX-License-Identifier: Apache-2.0

package ratls

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/verify"
)

// PeersOptions say which peers are accepted.
type PeersOptions struct {
	// Verify are the roots and reference values by which evidence is judged. Source, Nonce, RuntimeData, ReportData and Now
	// are set for each connection.
	Verify verify.Options
	// Verifier judges; nil is a new one that remembers verified signatures.
	Verifier *verify.Verifier
	// Accept, when not nil, may refuse further what the verifier accepted.
	Accept func(*verify.Verdict) error
	// MaxLife bounds how long a certificate may be valid; zero is one day.
	MaxLife time.Duration
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Peers judges the certificates of peers. It is safe for concurrent use. A nil Peers accepts nobody.
type Peers struct {
	opts PeersOptions

	mu    sync.Mutex
	known map[[sha256.Size]byte]*verify.Verdict
}

const (
	// maxKnown bounds the verdicts that are kept for Verdict.
	maxKnown = 1024
	// defaultMaxLife is how long a certificate may be valid.
	defaultMaxLife = 24 * time.Hour
	// appraisalWait bounds an appraisal, which the TLS handshake waits for.
	appraisalWait = 10 * time.Second
)

// NewPeers returns what judges peers by the options.
func NewPeers(opts PeersOptions) *Peers {
	if opts.Verifier == nil {
		opts.Verifier = verify.NewVerifier(maxKnown)
	}
	if opts.MaxLife == 0 {
		opts.MaxLife = defaultMaxLife
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	return &Peers{opts: opts, known: map[[sha256.Size]byte]*verify.Verdict{}}
}

// RefusedError says that a peer's evidence was not accepted.
type RefusedError struct{ Verdict *verify.Verdict }

// Error implements error.
func (e *RefusedError) Error() string {
	text := fmt.Sprintf("the peer's evidence is %s", e.Verdict.Outcome)
	for _, c := range e.Verdict.Failures() {
		text += fmt.Sprintf("; %s: expected %s, found %s", c.Code, c.Expected, c.Actual)
	}
	return text
}

// Client returns a configuration for a client that connects to servers which are accepted. Names in certificates do not
// count: what counts is the evidence.
func (p *Peers) Client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		// Certificates are judged by verifyConnection, which is always called.
		InsecureSkipVerify: true, //nolint:gosec // see above
		VerifyConnection:   p.verifyConnection,
	}
}

func (p *Peers) verifyConnection(s tls.ConnectionState) error {
	if p == nil {
		return errors.New("no peer is accepted")
	}
	if len(s.PeerCertificates) != 1 {
		return fmt.Errorf("the peer sent %d certificates, not 1", len(s.PeerCertificates))
	}
	ctx, cancel := context.WithTimeout(context.Background(), appraisalWait)
	defer cancel()
	_, err := p.Judge(ctx, s.PeerCertificates[0])
	return err
}

// Judge judges one certificate. The verdict is nil when the certificate itself is wrong; the error is a *RefusedError when
// its evidence is not accepted.
func (p *Peers) Judge(ctx context.Context, cert *x509.Certificate) (*verify.Verdict, error) {
	now := p.opts.Now()
	if err := p.checkCertificate(cert, now); err != nil {
		return nil, fmt.Errorf("attested TLS: %w", err)
	}
	a, err := parseExtension(cert)
	if err != nil {
		return nil, fmt.Errorf("attested TLS: %w", err)
	}
	if err := checkClaims(a.claims, cert.RawSubjectPublicKeyInfo); err != nil {
		return nil, fmt.Errorf("attested TLS: %w", err)
	}
	doc, bare, err := a.document()
	if err != nil {
		return nil, fmt.Errorf("attested TLS: %w", err)
	}
	if err := checkLife(a.claims, cert, bare, now.Add(p.opts.MaxLife+skew)); err != nil {
		return nil, fmt.Errorf("attested TLS: %w", err)
	}
	v, err := p.appraise(ctx, doc, a.claims, bare, now)
	if err != nil {
		return v, err
	}
	p.remember(cert, v)
	return v, nil
}

// checkCertificate requires a self-signed certificate in its time, which is short.
func (p *Peers) checkCertificate(cert *x509.Certificate, now time.Time) error {
	switch life := cert.NotAfter.Sub(cert.NotBefore); {
	case now.Before(cert.NotBefore) || now.After(cert.NotAfter):
		return fmt.Errorf("the certificate is valid from %s to %s, and it is %s", stamp(cert.NotBefore), stamp(cert.NotAfter), stamp(now))
	case life > p.opts.MaxLife+2*skew:
		return fmt.Errorf("the certificate is valid for %s, longer than %s", life, p.opts.MaxLife)
	case !bytes.Equal(cert.RawIssuer, cert.RawSubject):
		return errors.New("the certificate is not self-signed")
	}
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return fmt.Errorf("the certificate is not signed by its own key: %w", err)
	}
	return nil
}

// appraise has the evidence judged, bound to the claims.
func (p *Peers) appraise(ctx context.Context, doc *evidence.Document, claims []byte, bare bool, now time.Time) (*verify.Verdict, error) {
	o := p.opts.Verify
	o.Now, o.Source, o.Nonce, o.RuntimeData, o.ReportData = now, "", nil, nil, nil
	if bare {
		var data [64]byte
		sum := sha256.Sum256(claims)
		copy(data[:], sum[:])
		o.ReportData = [][]byte{data[:]}
	} else {
		// The nonce is the peer's own: what is fresh is the key, which the claims name.
		o.Source, o.Nonce, o.RuntimeData = evidence.SourceWorkload, doc.Nonce, claims
	}
	v := p.opts.Verifier.Appraise(ctx, doc, o)
	if !v.Accepted() {
		return v, &RefusedError{v}
	}
	if p.opts.Accept != nil {
		if err := p.opts.Accept(v); err != nil {
			return v, fmt.Errorf("attested TLS: %w", err)
		}
	}
	return v, nil
}

func (p *Peers) remember(cert *x509.Certificate, v *verify.Verdict) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.known) >= maxKnown {
		p.known = map[[sha256.Size]byte]*verify.Verdict{}
	}
	p.known[sha256.Sum256(cert.Raw)] = v
}

// Verdict returns the verdict by which the peer of a connection was accepted, or nil when it is not known any more or
// never was.
func (p *Peers) Verdict(s *tls.ConnectionState) *verify.Verdict {
	if s == nil || len(s.PeerCertificates) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.known[sha256.Sum256(s.PeerCertificates[0].Raw)]
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
