// SPDX-License-Identifier: Apache-2.0

// Package rest is the HTTP face of the vault: the data plane of Azure Key Vault and of Azure Managed HSM for keys and
// secrets, so that their clients can be pointed at this vault unchanged, with the release of secrets added beside it.
//
// Everything in a request is hostile, and what the package does with it is to find out who sent it and what they may call,
// and to take it apart. What is done with key material, and to whom it is released, package vault decides. The package
// trusts the authenticator that it was given; without one, and without roles, nobody may do anything.
//
// It bounds the depth of JSON, but not size and time of a request: package serve does.
package rest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"cofferdam.dev/internal/auth"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/vault"
)

// Options are what a handler is made of.
type Options struct {
	// Vault answers.
	Vault *vault.Vault
	// Auth says who sends a request. Nil lets nobody.
	Auth auth.Authenticator
	// Signer signs releases.
	Signer *Signer
	// URL is the vault's, https://host[:port], as clients see it. The identifiers of all objects begin with it.
	URL string
	// Authority is the URL at which clients get tokens; the last element of its path is the tenant.
	Authority string
	// Resource is what tokens must be for. Empty is the vault's host without its first label, which clients insist on:
	// they get a token for https://vault.example when they talk to https://name.vault.example alone.
	Resource string
	// Log gets what failed for reasons that are not the client's. It may be nil.
	Log *slog.Logger
}

// Handler serves the protocol.
type Handler struct {
	opts      Options
	challenge string
	header    string // of releases
	endpoints endpoints
}

// New returns a handler.
func New(opts Options) (*Handler, error) {
	h, err := newHandler(opts)
	if err != nil {
		return nil, fmt.Errorf("vault handler: %w", err)
	}
	return h, nil
}

func newHandler(opts Options) (*Handler, error) {
	if opts.Vault == nil || opts.Signer == nil {
		return nil, errors.New("there is no vault, or nothing that signs its releases")
	}
	opts.URL = strings.TrimSuffix(opts.URL, "/")
	if err := checkURL(opts.URL, true); err != nil {
		return nil, fmt.Errorf("the vault's URL: %w", err)
	}
	if err := checkURL(opts.Authority, false); err != nil {
		return nil, fmt.Errorf("the authority's URL: %w", err)
	}
	if opts.Resource == "" {
		opts.Resource = DefaultResource(opts.URL)
	}
	if err := checkURL(opts.Resource, false); err != nil {
		return nil, fmt.Errorf("the resource: %w", err)
	}
	if opts.Auth == nil {
		opts.Auth = auth.All{}
	}
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	h := &Handler{opts: opts, challenge: fmt.Sprintf("Bearer authorization=%q, resource=%q", opts.Authority, opts.Resource)}
	var err error
	if h.header, err = opts.Signer.header(opts.Vault.Managed()); err != nil {
		return nil, err
	}
	h.endpoints = h.table()
	return h, nil
}

// checkURL requires an https URL of characters that can stand in a challenge, without a path when it is bare.
func checkURL(s string, bare bool) error {
	u, err := url.Parse(s)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil ||
		strings.ContainsAny(s, "\"\\, ") || bare && u.Path != "" {
		return fmt.Errorf("%q is not an https URL of the form that is wanted", s)
	}
	return nil
}

// DefaultResource is the resource of a vault at a URL when none is configured: its host without the first label, or the
// URL itself when the host is an address or a single label.
func DefaultResource(vaultURL string) string {
	u, err := url.Parse(vaultURL)
	if err != nil {
		return vaultURL
	}
	_, rest, dotted := strings.Cut(u.Host, ".")
	if !dotted || strings.Trim(u.Host, "0123456789.:") == "" || strings.HasPrefix(u.Host, "[") {
		return vaultURL
	}
	return u.Scheme + "://" + rest
}

// table is all endpoints.
func (h *Handler) table() endpoints {
	get, put, post, patch, del := http.MethodGet, http.MethodPut, http.MethodPost, http.MethodPatch, http.MethodDelete
	updateKey, updateSecret := operation{"key-update", keysUpdate, h.updateKey}, operation{"secret-update", secretsUpdate, h.updateSecret}
	return endpoints{
		"keys": {get: {"keys", keysRead, h.keys}},
		"keys/{name}": {
			get: {"key", keysRead, h.key}, put: {"key-import", keysImport, h.importKey}, del: {"key-delete", keysDelete, h.deleteKey}, patch: updateKey,
		},
		"keys/{name}/create":              {post: {"key-create", keysCreate, h.createKey}},
		"keys/{name}/versions":            {get: {"key-versions", keysRead, h.keyVersions}},
		"keys/{name}/rotate":              {post: {"key-rotate", keysRotate, h.rotateKey}},
		"keys/{name}/rotationpolicy":      {get: {"key-rotation", rotationRead, h.rotationPolicy}, put: {"key-rotation-set", rotationWrite, h.setRotationPolicy}},
		"keys/{name}/backup":              {post: {"key-backup", keysBackup, h.backupKey}},
		"keys/restore":                    {post: {"key-restore", keysRestore, h.restoreKey}},
		"keys/{name}/{version}":           {get: {"key", keysRead, h.key}, patch: updateKey},
		"keys/{name}/{version}/encrypt":   {post: {"key-encrypt", keysEncrypt, h.encrypt}},
		"keys/{name}/{version}/decrypt":   {post: {"key-decrypt", keysDecrypt, h.decrypt}},
		"keys/{name}/{version}/sign":      {post: {"key-sign", keysSign, h.sign}},
		"keys/{name}/{version}/verify":    {post: {"key-verify", keysVerify, h.verify}},
		"keys/{name}/{version}/wrapkey":   {post: {"key-wrap", keysWrap, h.wrapKey}},
		"keys/{name}/{version}/unwrapkey": {post: {"key-unwrap", keysUnwrap, h.unwrapKey}},
		"keys/{name}/{version}/release":   {post: {"key-release", keysRelease, h.releaseKey}},
		"deletedkeys":                     {get: {"deleted-keys", keysRead, h.deletedKeys}},
		"deletedkeys/{name}":              {get: {"deleted-key", keysRead, h.deletedKey}, del: {"key-purge", keysPurge, h.purgeKey}},
		"deletedkeys/{name}/recover":      {post: {"key-recover", keysRecover, h.recoverKey}},

		"secrets": {get: {"secrets", secretsRead, h.secrets}},
		"secrets/{name}": {
			get: {"secret", secretsGet, h.secret}, put: {"secret-set", secretsSet, h.setSecret}, del: {"secret-delete", secretsDelete, h.deleteSecret},
			patch: updateSecret,
		},
		"secrets/{name}/backup":            {post: {"secret-backup", secretsBackup, h.backupSecret}},
		"secrets/restore":                  {post: {"secret-restore", secretsRestore, h.restoreSecret}},
		"secrets/{name}/versions":          {get: {"secret-versions", secretsRead, h.secretVersions}},
		"secrets/{name}/{version}":         {get: {"secret", secretsGet, h.secret}, patch: updateSecret},
		"secrets/{name}/{version}/release": {post: {"secret-release", secretsRelease, h.releaseSecret}},
		"deletedsecrets":                   {get: {"deleted-secrets", secretsRead, h.deletedSecrets}},
		"deletedsecrets/{name}":            {get: {"deleted-secret", secretsRead, h.deletedSecret}, del: {"secret-purge", secretsPurge, h.purgeSecret}},
		"deletedsecrets/{name}/recover":    {post: {"secret-recover", secretsRecover, h.recoverSecret}},

		"releases/{name}": {get: {"release", releasesRead, h.explain}},
		"counters/{name}": {get: {"counter", countersRead, h.counter}, put: {"counter-move", countersMove, h.moveCounter}},

		"rng": {post: {"random", keysRandom, h.random}},
	}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Ms-Request-Id", serve.RequestID(r.Context()))
	c := &call{w: w, r: r}
	methods, ok := h.endpoints[c.pattern(r.URL.Path)]
	if !ok {
		h.fail(w, r, refuse(http.StatusNotFound, serve.CodeNotFound, "There is no such endpoint."))
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	op, ok := methods[method]
	if !ok {
		w.Header().Set("Allow", strings.Join(slices.Sorted(maps.Keys(methods)), ", "))
		h.fail(w, r, refuse(http.StatusMethodNotAllowed, codeMethod, "The endpoint takes %s.", w.Header().Get("Allow")))
		return
	}
	object := c.object(r.URL.Path)
	// Who asks comes before what is asked: clients send their first request without a body to be told where tokens are.
	allowed := auth.Require(h.opts.Auth, h.denied(op, object), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.w, c.r = w, r
		if err := h.run(c, op); err != nil {
			h.fail(w, r, err)
		}
	}), allowing(h.opts.Vault.Managed(), op.needs, object)...)
	serve.Route(op.name, allowed).ServeHTTP(w, r)
}

func (h *Handler) run(c *call, op operation) error {
	if err := c.parseQuery(); err != nil {
		return err
	}
	if c.name != "" && !objectName.MatchString(c.name) || c.name == "" && op.named() {
		return bad("The name of an object is 1 to 127 letters, digits and hyphens.")
	}
	return op.do(c)
}

// named reports whether the operation is about one object.
func (o operation) named() bool {
	return !slices.Contains([]string{"keys", "deleted-keys", "secrets", "deleted-secrets", "random", "key-restore", "secret-restore"}, o.name)
}

// denied answers whoever may not do something. That somebody who is known was denied goes into the audit log.
func (h *Handler) denied(op operation, object string) auth.Failure {
	return func(w http.ResponseWriter, r *http.Request, status int, message string) {
		switch status {
		case http.StatusUnauthorized:
			w.Header().Set("WWW-Authenticate", h.challenge)
			text := "AKV10000: Request is missing a Bearer or PoP token."
			if r.Header.Get("Authorization") != "" {
				text = "The token is not accepted: " + message + "."
			}
			write(w, refuse(status, codeUnauthorized, "%s", text))
		case http.StatusForbidden:
			if err := h.recordDenial(r.Context(), op, object, message); err != nil {
				h.fail(w, r, err)
				return
			}
			write(w, forbidden(innerDenied, "The caller has no role that allows %s on %s.", op.needs, object))
		default:
			write(w, refuse(status, codeUnavailable, "%s", message))
		}
	}
}

func (h *Handler) recordDenial(ctx context.Context, op operation, object, message string) error {
	_, err := h.opts.Vault.Record(ctx, "access."+string(op.needs), object, false, message)
	return err
}
