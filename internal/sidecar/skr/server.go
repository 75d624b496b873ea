// SPDX-License-Identifier: Apache-2.0

package skr

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"

	"cofferdam.dev/attest"
	"cofferdam.dev/evidence/snp"
	"cofferdam.dev/internal/serve"
	"cofferdam.dev/release"
)

// Options are what a sidecar is made of.
type Options struct {
	// Evidence obtains evidence of the group.
	Evidence *Evidence
	// Client has keys released. Its attester should be Evidence.
	Client *release.Client
	// KeyDirectory has the public keys and their descriptions that WrapKey may use; empty lets it use none.
	KeyDirectory string
	// Log gets what failed: that and the code, and at the level debug why, which names keys and servers. It may be nil.
	Log *slog.Logger
}

// Server answers the containers of the group. It is an http.Handler, and Register adds it to a gRPC server.
type Server struct {
	opts   Options
	routes map[string]route
}

type route struct {
	name   string
	method string
	do     func(context.Context, fields) (any, error)
}

// New returns a server.
func New(o Options) (*Server, error) {
	if o.Evidence == nil || o.Client == nil {
		return nil, errors.New("release sidecar: there is no source of evidence, or no client")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{opts: o}
	s.routes = map[string]route{
		"/status":          {"status", http.MethodGet, s.status},
		"/attest/raw":      {"attest-raw", http.MethodPost, s.raw},
		"/attest/combined": {"attest-combined", http.MethodPost, s.combined},
		"/attest/maa":      {"attest-maa", http.MethodPost, s.token},
		"/key/release":     {"key-release", http.MethodPost, s.release},
		"/secret/release":  {"secret-release", http.MethodPost, s.releaseSecret},
		"/unwrap":          {"unwrap", http.MethodPost, s.unwrap},
		"/secrets/unwrap":  {"secrets-unwrap", http.MethodPost, s.unwrapSecret},
	}
	return s, nil
}

// ServeHTTP implements http.Handler. Every answer is one JSON object.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	if len(path) > 1 {
		path = strings.TrimSuffix(path, "/")
	}
	rt, ok := s.routes[path]
	if !ok {
		writeFailure(w, &failure{status: http.StatusNotFound, code: codeNoRoute, message: "there is no such endpoint"})
		return
	}
	serve.Route(rt.name, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.answer(w, r, rt) })).ServeHTTP(w, r)
}

func (s *Server) answer(w http.ResponseWriter, r *http.Request, rt route) {
	if r.Method != rt.method {
		// Not 405: clients of the sidecar know 404 for this.
		writeFailure(w, &failure{status: http.StatusNotFound, code: codeNoRoute, message: "the endpoint takes " + rt.method})
		return
	}
	in := fields{}
	var err error
	if rt.method == http.MethodPost {
		in, err = readFields(r)
	}
	var out any
	if err == nil {
		out, err = rt.do(r.Context(), in)
	}
	if err != nil {
		f := failureOf(err)
		s.logRefusal(f, slog.String("id", serve.RequestID(r.Context())), slog.String("route", rt.name), slog.Int("status", f.status))
		writeFailure(w, f)
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// logRefusal logs a refusal by its code. The text names keys and servers, and logs leave the group: it is there only for who
// asked for everything.
func (s *Server) logRefusal(f *failure, about ...any) {
	log := s.opts.Log.With(about...).With(slog.String("code", f.code))
	if f.release != "" {
		log = log.With(slog.String("release", f.release))
	}
	log.Warn("refused")
	log.Debug("refused because", slog.String("error", f.message))
}

// Error writes an error in the sidecar's form. It is a serve.ErrorFunc, for what the frame itself refuses.
func Error(w http.ResponseWriter, _ *http.Request, status int, code, message string) {
	writeFailure(w, &failure{status: status, code: code, message: message})
}

func writeFailure(w http.ResponseWriter, f *failure) {
	out := map[string]string{"error": f.message, "code": f.code}
	if f.release != "" {
		out["release"] = f.release
	}
	writeJSON(w, f.status, out)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	b, err := json.Marshal(v)
	if err != nil { // maps and structs of text always can be encoded
		status, b = http.StatusInternalServerError, []byte(`{"error":"the answer can not be encoded","code":"internal"}`)
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client may be gone
}

func (s *Server) status(context.Context, fields) (any, error) {
	return map[string]string{"message": "Status OK"}, nil
}

// raw answers with a report over the SHA-256 of the caller's data.
func (s *Server) raw(ctx context.Context, in fields) (any, error) {
	data, err := in.bytes("runtime_data")
	if err != nil {
		return nil, err
	}
	r, err := s.opts.Evidence.Raw(ctx, release.ReportData(data))
	if err == nil && r.Type != attest.TypeSEVSNP {
		err = fmt.Errorf("the group's evidence is of type %s, not %s", r.Type, attest.TypeSEVSNP)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", release.ErrEvidence, err)
	}
	return map[string]string{"report": hex.EncodeToString(r.Report)}, nil
}

// combined answers with all that an attestation service wants.
func (s *Server) combined(ctx context.Context, in fields) (any, error) {
	data, err := in.bytes("runtime_data")
	if err != nil {
		return nil, err
	}
	return s.attestation(ctx, data)
}

// combinedEvidence is evidence as it is answered.
type combinedEvidence struct {
	TCB          string `json:"endorsed_tcb"`
	Certificates string `json:"endorsements"`
	Report       string `json:"evidence"`
	UVM          string `json:"uvm_endorsements"`
}

func (s *Server) attestation(ctx context.Context, data []byte) (*combinedEvidence, error) {
	c, err := s.opts.Evidence.Collect(ctx, release.ReportData(data))
	if err == nil && c.Type != attest.TypeSEVSNP {
		err = fmt.Errorf("the group's evidence is of type %s, not %s", c.Type, attest.TypeSEVSNP)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", release.ErrEvidence, err)
	}
	out := &combinedEvidence{
		TCB: tcbNumber(c.TCB), Certificates: base64.StdEncoding.EncodeToString(c.ChainPEM()),
		Report: base64.StdEncoding.EncodeToString(c.Report),
	}
	if len(c.Endorsements) > 0 {
		out.UVM = base64.StdEncoding.EncodeToString(c.Endorsements[0])
	}
	return out, nil
}

// tcbNumber writes a TCB version as the number that hosts call tcbm.
func tcbNumber(t snp.TCB) string { return fmt.Sprintf("%016x", binary.LittleEndian.Uint64(t[:])) }

// token answers with an attestation service's token over the caller's data.
func (s *Server) token(ctx context.Context, in fields) (any, error) {
	if _, err := in.texts("maa_endpoint", "runtime_data"); err != nil {
		return nil, err
	}
	data, err := in.bytes("runtime_data")
	if err != nil {
		return nil, err
	}
	endpoint, err := in.text("maa_endpoint")
	if err != nil {
		return nil, err
	}
	t, err := s.opts.Client.Token(ctx, endpoint, data)
	if err != nil {
		return nil, err
	}
	return map[string]string{"token": t}, nil
}

// release answers with a key, as a text that holds a JSON web key.
func (s *Server) release(ctx context.Context, in fields) (any, error) {
	r, err := releaseRequest(in, "maa_endpoint", "akv_endpoint", "kid")
	if err != nil {
		return nil, err
	}
	if r.Format, err = in.text("format"); err != nil {
		return nil, err
	}
	k, err := s.opts.Client.Release(ctx, r)
	if err != nil {
		return nil, err
	}
	jwk, err := k.JWK()
	if err != nil {
		return nil, err
	}
	defer clear(jwk)
	return map[string]string{"key": string(jwk)}, nil
}

// releaseSecret answers with a secret in base64. Azure's vaults release keys alone.
func (s *Server) releaseSecret(ctx context.Context, in fields) (any, error) {
	r, err := releaseRequest(in, "maa_endpoint", "akv_endpoint", "name")
	if err != nil {
		return nil, err
	}
	if r.Format, err = in.text("format"); err != nil {
		return nil, err
	}
	secret, err := s.opts.Client.ReleaseSecret(ctx, r)
	if err != nil {
		return nil, err
	}
	out := map[string]string{"value": base64.StdEncoding.EncodeToString(secret.Value())}
	if secret.ContentType() != "" {
		out["content_type"] = secret.ContentType()
	}
	return out, nil
}
