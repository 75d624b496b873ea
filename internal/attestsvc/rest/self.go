// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/serve"
)

// Attester makes evidence of the machine that the service runs in, on behalf of the service.
type Attester interface {
	Evidence(ctx context.Context, nonce, runtimeData []byte) (*evidence.Document, error)
}

const (
	// selfWait is how long a request waits for others that want evidence: firmware makes a few per second at most.
	selfWait = 5 * time.Second
	// selfWaiting bounds those that wait. Each holds a place among the requests that the service answers at a time, and
	// anybody can ask.
	selfWaiting = 8
)

// selfClaims are what evidence of the service binds besides the nonce.
type selfClaims struct {
	Issuer string `json:"issuer"`
	// Keys are the RFC 7638 thumbprints, the key IDs, of the keys with which this very process signs.
	Keys []string `json:"keys"`
}

// self answers GET /attest/self with evidence of the machine that the service runs in, for the nonce in the query. It binds
// the keys that this process made itself and no others: the key set of /certs comes from the store, where whoever holds the
// store can put keys of their own.
func (h *Handler) self(c *call) error {
	if h.opts.Self == nil {
		return refuse(http.StatusNotFound, serve.CodeNotFound, "the service does not run in a confidential machine, so that there is no evidence of it")
	}
	nonce, err := decode64("nonce", []byte(c.r.URL.Query().Get("nonce")))
	if err != nil {
		return err
	}
	if len(nonce) < evidence.MinNonceSize || len(nonce) > evidence.MaxNonceSize {
		return bad("want a query parameter nonce of %d to %d bytes in base64url", evidence.MinNonceSize, evidence.MaxNonceSize)
	}
	runtime, err := json.Marshal(selfClaims{h.opts.Service.Issuer(c.tenant, c.simulated), h.opts.Service.OwnKeys()})
	if err != nil {
		return err
	}
	leave, err := h.enter(c.r.Context())
	if err != nil {
		return err
	}
	defer leave()
	doc, err := h.opts.Self.Evidence(c.r.Context(), nonce, runtime)
	if err != nil {
		return fmt.Errorf("evidence of the service itself: %w", err)
	}
	b, err := doc.Marshal()
	if err != nil {
		return fmt.Errorf("evidence of the service itself: %w", err)
	}
	return respond(c, json.RawMessage(b))
}

// challengeTLS answers challenges of attested TLS, which cost evidence as well.
func (h *Handler) challengeTLS(c *call) error {
	if h.opts.ChallengeTLS == nil {
		return refuse(http.StatusNotFound, serve.CodeNotFound, "the service's TLS is not attested")
	}
	leave, err := h.enter(c.r.Context())
	if err != nil {
		return err
	}
	defer leave()
	h.opts.ChallengeTLS.ServeHTTP(c.w, c.r)
	return nil
}

// enter waits for the turn of a request that costs evidence.
func (h *Handler) enter(ctx context.Context) (leave func(), err error) {
	busy := refuse(http.StatusServiceUnavailable, codeUnavailable, "too many want evidence of the service itself; try again")
	select {
	case h.waiting <- struct{}{}:
		defer func() { <-h.waiting }()
	default:
		return nil, busy
	}
	wait := time.NewTimer(selfWait)
	defer wait.Stop()
	select {
	case h.reporting <- struct{}{}:
		return func() { <-h.reporting }, nil
	case <-wait.C:
		return nil, busy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
