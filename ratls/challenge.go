// SPDX-License-Identifier: Apache-2.0

package ratls

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/verify"
)

const (
	// ChallengePath is where a server answers challenges.
	ChallengePath = "/.well-known/ratls/evidence"
	// exporterLabel names the use of the exported key (RFC 5705, RFC 8446 section 7.5).
	exporterLabel = "EXPORTER-cofferdam-ratls-v1"
	exporterSize  = 32
)

// challengeClaims are the claims of evidence that is made for a nonce on a connection: key and connection.
func challengeClaims(s *tls.ConnectionState, spki []byte) ([]byte, error) {
	secret, err := s.ExportKeyingMaterial(exporterLabel, nil, exporterSize)
	if err != nil {
		return nil, fmt.Errorf("naming the connection: %w", err)
	}
	return claimsOf(spki, time.Time{}, secret), nil
}

// Handler answers challenges at ChallengePath: a POST of a nonce of evidence.MinNonceSize to evidence.MaxNonceSize bytes is
// answered with fresh evidence that commits to the nonce, to the identity's key and to this connection.
func (i *Identity) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.TLS == nil {
			http.Error(w, "want a POST over TLS", http.StatusMethodNotAllowed)
			return
		}
		nonce, err := io.ReadAll(http.MaxBytesReader(w, r.Body, evidence.MaxNonceSize))
		if err != nil || len(nonce) < evidence.MinNonceSize {
			http.Error(w, fmt.Sprintf("want a nonce of %d to %d bytes", evidence.MinNonceSize, evidence.MaxNonceSize), http.StatusBadRequest)
			return
		}
		b, err := i.answer(r, nonce)
		if err != nil {
			http.Error(w, "no evidence can be made now", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b) //nolint:gosec // JSON of our own making; the client may be gone
	})
}

func (i *Identity) answer(r *http.Request, nonce []byte) ([]byte, error) {
	// The connection may use the key before the current one: the evidence names the connection, and the client compares
	// the key with the one that it was shown.
	c, err := i.certificate(r.Context())
	if err != nil {
		return nil, err
	}
	claims, err := challengeClaims(r.TLS, c.Leaf.RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, err
	}
	doc, err := i.opts.Attester.Evidence(r.Context(), nonce, claims)
	if err != nil {
		return nil, err
	}
	return doc.Marshal()
}

// Challenge asks the server of a client's connections to prove that it is alive now: it sends a fresh nonce, and requires
// evidence that commits to the nonce and to the very connection that carries it. Base is the server's URL without a path.
// The client's transport must use the configuration of p.
func (p *Peers) Challenge(ctx context.Context, client *http.Client, base string) (*verify.Verdict, error) {
	nonce := make([]byte, 32)
	_, _ = rand.Read(nonce) // never fails
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+ChallengePath, bytes.NewReader(nonce))
	if err != nil {
		return nil, fmt.Errorf("challenging %s: %w", base, err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("challenging %s: %w", base, err)
	}
	defer func() { _ = resp.Body.Close() }() // read to its end, or of no use
	b, err := io.ReadAll(io.LimitReader(resp.Body, evidence.MaxDocumentSize+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("challenging %s: %w", base, err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("challenging %s: it answers %s", base, resp.Status)
	case resp.TLS == nil || len(resp.TLS.PeerCertificates) != 1:
		return nil, fmt.Errorf("challenging %s: the connection is not attested", base)
	}
	doc, err := evidence.ParseDocument(b)
	if err != nil {
		return nil, fmt.Errorf("challenging %s: %w", base, err)
	}
	claims, err := challengeClaims(resp.TLS, resp.TLS.PeerCertificates[0].RawSubjectPublicKeyInfo)
	if err != nil {
		return nil, fmt.Errorf("challenging %s: %w", base, err)
	}
	if !bytes.Equal(doc.Nonce, nonce) {
		return nil, fmt.Errorf("challenging %s: %w", base, errors.New("the evidence is for another nonce"))
	}
	return p.appraise(ctx, doc, claims, false, p.opts.Now())
}
