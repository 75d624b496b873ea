// SPDX-License-Identifier: Apache-2.0

package ratls

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"sync"
	"time"

	"cofferdam.dev/evidence"
)

// DefaultLife is how long a certificate is valid when nothing else is said. A new one, with a new key, is made when half
// of it is over.
const DefaultLife = 2 * time.Hour

// Attester makes evidence of the guest that the program runs in, on behalf of the workload.
type Attester interface {
	// Evidence returns a document with evidence.SourceWorkload that commits to the nonce and the runtime data.
	Evidence(ctx context.Context, nonce, runtimeData []byte) (*evidence.Document, error)
}

// IdentityOptions say what an identity is like.
type IdentityOptions struct {
	// Attester makes the evidence.
	Attester Attester
	// Name is the certificate's common name. Nobody relies on it.
	Name string
	// Life replaces DefaultLife when it is not zero.
	Life time.Duration
	// Now is the clock; nil is the machine's.
	Now func() time.Time
}

// Identity is an attested key with its certificate. It is replaced before it expires, while connections go on. It is safe
// for concurrent use.
type Identity struct {
	opts IdentityOptions

	mu      sync.Mutex
	current *tls.Certificate
	renew   time.Time
}

// NewIdentity makes the first key and certificate.
func NewIdentity(ctx context.Context, opts IdentityOptions) (*Identity, error) {
	if opts.Attester == nil {
		return nil, errors.New("making an attested identity: there is no attester")
	}
	if opts.Life == 0 {
		opts.Life = DefaultLife
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	i := &Identity{opts: opts}
	_, err := i.certificate(ctx)
	return i, err
}

// Rhythm of renewals.
const (
	// makeWait bounds the making of a certificate, for which handshakes wait.
	makeWait = 20 * time.Second
	// retry is how long after a failure the next attempt comes.
	retry = 30 * time.Second
)

// certificate returns the current certificate, and makes a new one when it is time. As long as the current one is valid, a
// failure to replace it is no failure. What a peer does with its handshake does not matter: another needs the certificate
// as well.
func (i *Identity) certificate(ctx context.Context) (*tls.Certificate, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := i.opts.Now()
	if i.current != nil && now.Before(i.renew) {
		return i.current, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), makeWait)
	defer cancel()
	c, err := i.make(ctx, now)
	if err != nil {
		if i.current != nil && now.Before(i.current.Leaf.NotAfter) {
			i.renew = now.Add(retry)
			return i.current, nil
		}
		return nil, fmt.Errorf("making an attested certificate: %w", err)
	}
	i.current, i.renew = c, now.Add(i.opts.Life/2)
	return c, nil
}

// skew is how much earlier than now a certificate begins, for peers whose clock is behind.
const skew = 5 * time.Minute

func (i *Identity) make(ctx context.Context, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	until := now.Add(i.opts.Life)
	claims := claimsOf(spki, until, nil)
	nonce := make([]byte, evidence.MaxNonceSize/2)
	_, _ = rand.Read(nonce) // never fails
	doc, err := i.opts.Attester.Evidence(ctx, nonce, claims)
	if err != nil {
		return nil, err
	}
	b, err := doc.Marshal()
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: i.opts.Name}, NotBefore: now.Add(-skew), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, ExtraExtensions: []pkix.Extension{newExtension(b, claims)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}

// Server returns a configuration for a server with this identity. When peers is not nil, clients must have an identity that
// it accepts; otherwise anybody may connect.
func (i *Identity) Server(peers *Peers) *tls.Config {
	c := &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return i.certificate(h.Context())
		},
		// A resumed session would not be judged by the evidence of today.
		SessionTicketsDisabled: true,
	}
	if peers != nil {
		c.ClientAuth = tls.RequireAnyClientCert
		c.VerifyConnection = peers.verifyConnection
	}
	return c
}

// Client returns a configuration for a client with this identity that connects to servers which peers accepts.
func (i *Identity) Client(peers *Peers) *tls.Config {
	c := peers.Client()
	c.GetClientCertificate = func(r *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return i.certificate(r.Context())
	}
	return c
}
