// SPDX-License-Identifier: Apache-2.0

package rest

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence"
	"cofferdam.dev/internal/serve"
)

// selfWait is how long a request waits for others that want a report: firmware makes a few per second at most.
const selfWait = 5 * time.Second

// self answers GET /attest/self with evidence of the machine that the service runs in, for the nonce in the query. It binds
// the key set: who appraises it knows that the keys of /certs are the service's, before trusting any token.
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
	keys, err := h.opts.Service.JWKS(c.r.Context())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(keys)
	runtime, err := json.Marshal(map[string]string{
		"issuer": h.opts.Service.Issuer(c.tenant, c.simulated), "jwksSHA256": hex.EncodeToString(sum[:]),
	})
	if err != nil {
		return err
	}
	res, err := h.report(c, evidence.ReportData(evidence.SourceWorkload, nonce, runtime))
	if err != nil {
		return err
	}
	doc, err := res.Document(evidence.SourceWorkload, nonce, runtime)
	if err != nil {
		return fmt.Errorf("evidence of the service itself: %w", err)
	}
	b, err := doc.Marshal()
	if err != nil {
		return fmt.Errorf("evidence of the service itself: %w", err)
	}
	return respond(c, json.RawMessage(b))
}

// report gets one report at a time.
func (h *Handler) report(c *call, data [64]byte) (*attest.Result, error) {
	wait := time.NewTimer(selfWait)
	defer wait.Stop()
	select {
	case h.reporting <- struct{}{}:
		defer func() { <-h.reporting }()
	case <-wait.C:
		return nil, refuse(http.StatusServiceUnavailable, codeUnavailable, "too many want evidence of the service itself; try again")
	case <-c.r.Context().Done():
		return nil, c.r.Context().Err()
	}
	res, err := h.opts.Self.Report(c.r.Context(), data)
	if err != nil {
		return nil, fmt.Errorf("getting a report of the service itself: %w", err)
	}
	return res, nil
}
