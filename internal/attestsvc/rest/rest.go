// SPDX-License-Identifier: Apache-2.0

// Package rest is the HTTP face of the attestation service: the protocol of Microsoft Azure Attestation, so that its
// clients can be pointed at this service unchanged, with a few endpoints and members of our own beside it.
//
// Everything in a request is hostile, and what the package does with it is to take it apart: what evidence is worth,
// package attestsvc says. It trusts the authenticator that it was given about who administers policies; attesting and
// reading policies and keys are open to everybody, as they are there. An answer never has another tenant's data.
//
// It bounds the depth of JSON and of what is encoded in it, but not size and time of a request: package serve does.
package rest

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"cofferdam.dev/internal/attestsvc"
	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/serve"
)

// Roles that the service knows. Followed by a slash and a tenant's name, each is good for that tenant alone.
const (
	// RoleAdmin may change policies and who signs them.
	RoleAdmin auth.Role = "attestation.admin"
	// RoleReader may read who signs policies.
	RoleReader auth.Role = "attestation.reader"
)

// GCPercent is the setting of debug.SetGCPercent that suits a process that serves. Next to nothing of a request outlives it,
// so that the heap is small, and collecting it each time that it has doubled would be a tenth of the work; this takes some
// 50 MiB instead.
const GCPercent = 400

// Options are what a handler is made of.
type Options struct {
	// Service answers.
	Service *attestsvc.Service
	// Auth says who administers. Nil lets nobody.
	Auth auth.Authenticator
	// Tenants are the tenants besides the default one.
	Tenants []string
	// Self makes evidence of the machine that the service runs in, or is nil when that is no guest.
	Self Attester
	// ChallengeTLS answers challenges about the service's attested TLS, or is nil when that is not attested.
	ChallengeTLS http.Handler
	// Log gets what failed for reasons that are not the client's. It may be nil.
	Log *slog.Logger
}

// Handler serves the protocol.
type Handler struct {
	opts      Options
	endpoints map[string]endpoint
	// reporting holds a place while evidence of the own machine is made, and waiting those that wait for one.
	reporting, waiting chan struct{}
}

// endpoint is what a path below a tenant's is good for.
type endpoint struct {
	// name is the label of metrics and logs.
	name string
	// typed says that the path ends with a type of evidence.
	typed bool
	// versioned says that the request must have an API version.
	versioned bool
	methods   map[string]operation
}

// operation is what is done for one method.
type operation struct {
	do func(*call) error
	// roles are those of which one is needed; none is needed when there are none.
	roles []auth.Role
}

// call is one request under way.
type call struct {
	w http.ResponseWriter
	r *http.Request
	target

	kind attestsvc.Kind
}

// target is whose endpoint a request is for: a tenant's, and by which of the tenant's two issuers it was addressed.
type target struct {
	tenant    string
	simulated bool
}

// New returns a handler.
func New(opts Options) (*Handler, error) {
	if opts.Service == nil {
		return nil, errors.New("attestation handler: there is no service")
	}
	for _, t := range opts.Tenants {
		if err := attestsvc.CheckTenant(t); err != nil {
			return nil, fmt.Errorf("attestation handler: %w", err)
		}
	}
	if opts.Auth == nil {
		opts.Auth = auth.All{}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{opts: opts, reporting: make(chan struct{}, 1), waiting: make(chan struct{}, selfWaiting)}
	admin, reader := []auth.Role{RoleAdmin}, []auth.Role{RoleReader, RoleAdmin}
	open := func(do func(*call) error) operation { return operation{do: do} }
	h.endpoints = map[string]endpoint{
		"attest/":             {"attest", true, true, map[string]operation{"POST": open(h.attest)}},
		"attest/self":         {"self", false, false, map[string]operation{"GET": open(h.self)}},
		"policies/":           {"policy", true, true, map[string]operation{"GET": open(h.policy), "PUT": {h.setPolicy, admin}}},
		"policies/:reset":     {"policy-reset", true, true, map[string]operation{"POST": {h.resetPolicy, admin}}},
		"certificates":        {"signers", false, true, map[string]operation{"GET": {h.signers, reader}}},
		"certificates:add":    {"signer-add", false, true, map[string]operation{"POST": {h.addSigner, admin}}},
		"certificates:remove": {"signer-remove", false, true, map[string]operation{"POST": {h.removeSigner, admin}}},
		"certs":               {"keys", false, false, map[string]operation{"GET": open(h.keys)}},
		"challenge":           {"challenge", false, false, map[string]operation{"GET": open(h.challenge), "POST": open(h.challenge)}},

		".well-known/ratls/evidence":       {"challenge-tls", false, false, map[string]operation{"POST": open(h.challengeTLS)}},
		".well-known/openid-configuration": {"metadata", false, false, map[string]operation{"GET": open(h.metadata)}},
	}
	return h, nil
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if id := serve.RequestID(r.Context()); id != "" {
		w.Header().Set("X-Ms-Request-Id", id)
	}
	c := &call{w: w, r: r}
	e, err := h.find(c)
	if err != nil {
		h.fail(w, r, err)
		return
	}
	serve.Route(e.name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.w, c.r = w, r
		h.run(c, e)
	})).ServeHTTP(w, r)
}

// find says which endpoint a request is for. Paths are taken apart rather than cleaned: clients exist that double slashes,
// and a redirection would lose their bodies.
func (h *Handler) find(c *call) (endpoint, error) {
	var parts []string
	for _, s := range strings.Split(c.r.URL.Path, "/") {
		if s != "" {
			parts = append(parts, s)
		}
	}
	parts, err := h.address(c, parts)
	if err != nil {
		return endpoint{}, err
	}
	path := strings.ToLower(strings.Join(parts, "/"))
	if e, ok := h.endpoints[path]; ok && !e.typed {
		return e, nil
	}
	if len(parts) == 2 {
		name, verb, has := strings.Cut(parts[1], ":")
		key := strings.ToLower(parts[0]) + "/"
		if has {
			key += ":" + strings.ToLower(verb)
		}
		if e, ok := h.endpoints[key]; ok {
			if c.kind, err = attestsvc.ParseKind(name); err != nil {
				return endpoint{}, refuse(http.StatusBadRequest, codeParameter, "%v", err)
			}
			return e, nil
		}
	}
	return endpoint{}, refuse(http.StatusNotFound, serve.CodeNotFound, "there is no such endpoint")
}

// address takes tenant and issuer off the path.
func (h *Handler) address(c *call, parts []string) ([]string, error) {
	c.tenant = attestsvc.DefaultTenant
	if len(parts) > 0 && parts[0] == "tenants" {
		if len(parts) < 2 || !slices.Contains(h.opts.Tenants, parts[1]) {
			return nil, refuse(http.StatusNotFound, serve.CodeNotFound, "there is no such tenant")
		}
		c.tenant, parts = parts[1], parts[2:]
	}
	if len(parts) > 0 && parts[0] == "simulated" {
		if !h.opts.Service.Simulated() {
			return nil, refuse(http.StatusNotFound, serve.CodeNotFound, "the service takes no simulated evidence")
		}
		c.simulated, parts = true, parts[1:]
	}
	return parts, nil
}

// run does what a request asks for, if its sender may.
func (h *Handler) run(c *call, e endpoint) {
	method := c.r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	op, ok := e.methods[method]
	if !ok {
		c.w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(e.methods)), ", "))
		h.fail(c.w, c.r, refuse(http.StatusMethodNotAllowed, "MethodNotAllowed", "the endpoint takes %s", c.w.Header().Get("Allow")))
		return
	}
	if len(op.roles) == 0 {
		h.finish(c, e, op)
		return
	}
	roles := slices.Clone(op.roles)
	for _, r := range op.roles {
		roles = append(roles, r+"/"+auth.Role(c.tenant))
	}
	auth.Require(h.opts.Auth, denied, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.w, c.r = w, r
		h.finish(c, e, op)
	}), roles...).ServeHTTP(c.w, c.r)
}

func (h *Handler) finish(c *call, e endpoint, op operation) {
	err := error(nil)
	if e.versioned {
		err = checkVersion(c.r.URL.RawQuery)
	}
	if err == nil {
		err = op.do(c)
	}
	if err != nil {
		h.fail(c.w, c.r, err)
	}
}

// versions are the API versions that clients name. The service answers all of them alike.
var versions = []string{
	"2018-09-01-preview", "2020-10-01", "2022-08-01", "2022-09-01-preview", "2025-06-01", "2026-03-11-preview",
}

// checkVersion requires one API version that is known. The name is decoded first: some clients encode its hyphen.
func checkVersion(query string) error {
	q, err := url.ParseQuery(query)
	if err != nil {
		return refuse(http.StatusBadRequest, codeParameter, "the query is malformed")
	}
	v := q["api-version"]
	if len(v) != 1 || !slices.Contains(versions, strings.ToLower(v[0])) {
		return refuse(http.StatusBadRequest, codeParameter, "want one query parameter api-version, which is one of %s", strings.Join(versions, ", "))
	}
	return nil
}
