// SPDX-License-Identifier: Apache-2.0

package kbs

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/kbs/rcar"
	"cofferdam.dev/internal/seal"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/strictjson"
)

// Prefix is the path below which the protocol lies.
const Prefix = "/kbs/v0/"

// CookieName is the name of the cookie that has the session.
const CookieName = "kbs-session-id"

// RoleAdmin may set resources and rules. Followed by a slash and a repository's name, it may set the resources of that
// repository alone.
const RoleAdmin auth.Role = "kbs.admin"

// Handler serves the protocol.
type Handler struct {
	broker *Broker
	auth   auth.Authenticator
	log    *slog.Logger
}

// NewHandler returns a handler. Who administers, the authenticator says; nil lets nobody.
func NewHandler(b *Broker, who auth.Authenticator) *Handler {
	if who == nil {
		who = auth.All{}
	}
	return &Handler{b, who, b.opts.Log}
}

// call is one request under way.
type call struct {
	w    http.ResponseWriter
	r    *http.Request
	path Path
}

// operation is what is done for one method of an endpoint.
type operation struct {
	do    func(*call) error
	admin bool
}

// ServeHTTP implements http.Handler. Paths are taken apart rather than cleaned: a redirection would lose the body.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r}
	rest, ok := strings.CutPrefix(r.URL.Path, Prefix)
	parts := strings.Split(rest, "/")
	name, methods := parts[0], map[string]operation(nil)
	switch {
	case !ok:
	case name == "resource":
		methods = map[string]operation{"GET": {h.get, false}, "POST": {h.put, true}, "DELETE": {h.remove, true}}
	case len(parts) > 1:
	case name == "auth":
		methods = map[string]operation{"POST": {h.begin, false}}
	case name == "attest":
		methods = map[string]operation{"POST": {h.attest, false}}
	case name == "resource-policy":
		methods = map[string]operation{"GET": {h.rules, true}, "POST": {h.setRules, true}}
	}
	if methods == nil {
		h.fail(c, refuse(InvalidRequestPath, "there is no such endpoint"))
		return
	}
	serve.Route("kbs-"+name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.w, c.r = w, r
		h.run(c, methods, parts[1:])
	})).ServeHTTP(w, r)
}

func (h *Handler) run(c *call, methods map[string]operation, rest []string) {
	op, ok := methods[c.r.Method]
	if !ok {
		c.w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
		answerError(c.w, http.StatusMethodNotAllowed, "MethodNotAllowed", "the endpoint takes "+c.w.Header().Get("Allow"))
		return
	}
	roles := []auth.Role{RoleAdmin}
	if _, isResource := methods["DELETE"]; isResource {
		var err error
		if c.path, err = ParsePath(rest...); err != nil {
			h.fail(c, err)
			return
		}
		roles = append(roles, RoleAdmin+"/"+auth.Role(c.path.Repository))
	}
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.w, c.r = w, r
		if err := op.do(c); err != nil {
			h.fail(c, err)
		}
	})
	if !op.admin {
		next(c.w, c.r)
		return
	}
	auth.Require(h.auth, denied, next, roles...).ServeHTTP(c.w, c.r)
}

// body reads at most so many bytes.
func (c *call) body(most int64) ([]byte, error) {
	b, err := io.ReadAll(http.MaxBytesReader(c.w, c.r.Body, most))
	if err != nil {
		return nil, fmt.Errorf("reading the body: %w", err)
	}
	return b, nil
}

func (c *call) session() string {
	cookie, err := c.r.Cookie(CookieName)
	if err != nil {
		return ""
	}
	return cookie.Value
}

// answer writes a body in JSON.
func (c *call) answer(b []byte) {
	c.w.Header().Set("Content-Type", "application/json")
	c.w.Header().Set("Cache-Control", "no-store")
	_, _ = c.w.Write(b) // the client may be gone
}

// answerSession writes a body, and the session as a cookie that is for this protocol alone.
func (c *call) answerSession(s *Session) {
	http.SetCookie(c.w, &http.Cookie{ //nolint:gosec // a server on loopback may have no TLS
		Name: CookieName, Value: s.ID, Path: strings.TrimSuffix(Prefix, "/"), Expires: s.Expires, HttpOnly: true, Secure: c.r.TLS != nil,
		SameSite: http.SameSiteStrictMode,
	})
	c.answer(s.Body)
}

func (h *Handler) begin(c *call) error {
	body, err := c.body(rcar.MaxRequest)
	if err != nil {
		return err
	}
	s, err := h.broker.Begin(c.r.Context(), body)
	if err != nil {
		return err
	}
	c.answerSession(s)
	return nil
}

func (h *Handler) attest(c *call) error {
	id := c.session()
	if id == "" {
		return refuse(AttestationError, "the cookie %s is not there: begin with a request for a challenge", CookieName)
	}
	body, err := c.body(rcar.MaxAttestation)
	if err != nil {
		return err
	}
	s, err := h.broker.Attest(c.r.Context(), id, body)
	if err != nil {
		return err
	}
	c.answerSession(s)
	return nil
}

func (h *Handler) get(c *call) error {
	bearer, err := auth.Bearer(c.r)
	if errors.Is(err, auth.ErrCredentials) {
		return refuse(TokenNotFound, "%v", err)
	}
	answer, err := h.broker.Release(c.r.Context(), c.session(), bearer, c.path)
	if err != nil {
		return err
	}
	c.answer(answer)
	return nil
}

func (h *Handler) put(c *call) error {
	b, err := c.body(MaxResource)
	if err != nil {
		return err
	}
	secret := seal.NewSecret(b)
	defer secret.Destroy()
	if err := h.broker.PutResource(c.r.Context(), c.path, secret); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (h *Handler) remove(c *call) error {
	if err := h.broker.DeleteResource(c.r.Context(), c.path); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

func (h *Handler) rules(c *call) error {
	b, err := h.broker.Rules(c.r.Context())
	if err != nil {
		return err
	}
	if b == nil {
		return refuse(ResourceNotFound, "no rules were set, so that nothing is released")
	}
	c.answer(b)
	return nil
}

// setRules takes the rules as clients of the protocol send a policy: in base64url in a member of JSON.
func (h *Handler) setRules(c *call) error {
	body, err := c.body(2 * MaxRules)
	if err != nil {
		return err
	}
	o, err := strictjson.Parse(body)
	if err != nil {
		return refuse(ParsePolicyError, "%v", err)
	}
	text, err := o.Text("policy")
	if err != nil {
		return refuse(ParsePolicyError, "%v", err)
	}
	rules, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return refuse(ParsePolicyError, "the policy is not in base64url: %v", err)
	}
	if err := h.broker.SetRules(c.r.Context(), rules); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}
