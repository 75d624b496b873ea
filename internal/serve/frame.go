// SPDX-License-Identifier: Apache-2.0

package serve

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// RequestIDHeader carries the request's ID in every answer.
const RequestIDHeader = "X-Request-Id"

// frame is the handler around a service's handler.
type frame struct {
	opts     Options
	metrics  *metrics
	shares   *shares
	clients  *clients
	draining atomic.Bool

	readiness readiness
}

func newFrame(opts Options) *frame {
	return &frame{
		opts: opts, metrics: newMetrics(opts.Name), shares: newShares(&opts.Limits),
		clients: newClients(opts.Limits.ClientRate, opts.Limits.ClientBurst),
	}
}

// about is what the frame keeps of a request.
type about struct {
	id    string
	route string
}

type aboutKey struct{}

// RequestID returns the ID of the request that the context belongs to, or "".
func RequestID(ctx context.Context) string {
	if a, ok := ctx.Value(aboutKey{}).(*about); ok {
		return a.id
	}
	return ""
}

// Route names what a handler answers. The name is a constant of the program: it becomes a label of metrics.
func Route(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if a, ok := r.Context().Value(aboutKey{}).(*about); ok {
			a.route = name
		}
		h.ServeHTTP(w, r)
	})
}

// ServeHTTP implements http.Handler.
func (f *frame) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	begin := time.Now()
	a := &about{id: rand.Text(), route: "other"}
	ctx, cancel := context.WithTimeout(context.WithValue(r.Context(), aboutKey{}, a), f.opts.Limits.Request)
	defer cancel()
	r = r.WithContext(ctx)
	sw := &statusWriter{ResponseWriter: w}
	sw.Header().Set(RequestIDHeader, a.id)
	sw.Header().Set("X-Content-Type-Options", "nosniff")
	f.serve(sw, r, a)
	took := time.Since(begin)
	f.metrics.observe(a.route, sw.status(), took)
	level := slog.LevelInfo
	if a.route == "healthz" || a.route == "readyz" {
		level = slog.LevelDebug // they are asked again and again
	}
	f.opts.Log.LogAttrs(r.Context(), level, "request", slog.String("role", f.opts.Name), slog.String("id", a.id),
		slog.String("route", a.route), slog.String("method", method(r)), slog.Int("status", sw.status()),
		slog.Int64("milliseconds", took.Milliseconds()), slog.Int64("bytes", sw.written))
}

func (f *frame) serve(w *statusWriter, r *http.Request, a *about) {
	switch r.URL.Path {
	case "/healthz":
		a.route = "healthz"
		_, _ = w.Write([]byte("ok\n")) // the client may be gone
		return
	case "/readyz":
		a.route = "readyz"
		f.ready(w, r)
		return
	}
	who := client(r)
	if !f.clients.allow(who) {
		w.Header().Set("Retry-After", "1")
		f.opts.Error(w, r, http.StatusTooManyRequests, CodeTooMany, "this address sends too many requests; try again in a second")
		return
	}
	size := r.ContentLength
	if size > f.opts.Limits.Body {
		f.opts.Error(w, r, http.StatusRequestEntityTooLarge, CodeTooLarge, "the body is larger than the service takes")
		return
	}
	if size < 0 { // the client does not say
		size = f.opts.Limits.Body
	}
	leave := f.shares.take(who, size)
	if leave == nil {
		w.Header().Set("Retry-After", "1")
		f.opts.Error(w, r, http.StatusServiceUnavailable, CodeOverloaded, "too many requests at a time; try again in a second")
		return
	}
	defer leave()
	f.metrics.running.Inc()
	defer f.metrics.running.Dec()
	r.Body = http.MaxBytesReader(w, r.Body, f.opts.Limits.Body)
	defer f.contain(w, r)
	f.opts.Handler.ServeHTTP(w, r)
}

// contain turns a panic into an error answer.
func (f *frame) contain(w *statusWriter, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(p) // the handler wants the connection closed
	}
	f.metrics.panics.Inc()
	// The value may hold what the client sent; the stack holds none of it.
	f.opts.Log.Error("a handler panicked", slog.String("role", f.opts.Name), slog.String("id", RequestID(r.Context())),
		slog.String("stack", string(debug.Stack())))
	if w.code == 0 {
		f.opts.Error(w, r, http.StatusInternalServerError, CodeInternal, "the request could not be handled; the operator finds it in the log by its ID")
	}
}

func (f *frame) ready(w http.ResponseWriter, r *http.Request) {
	switch {
	case f.draining.Load():
		http.Error(w, "ending", http.StatusServiceUnavailable)
	case f.opts.Ready != nil:
		changed, err := f.readiness.ask(r.Context(), f.opts.Ready)
		if changed && err != nil {
			f.opts.Log.Warn("not ready", slog.String("role", f.opts.Name), slog.Any("error", err))
		} else if changed {
			f.opts.Log.Info("ready", slog.String("role", f.opts.Name))
		}
		if err != nil {
			http.Error(w, "not ready", http.StatusServiceUnavailable)
			return
		}
		fallthrough
	default:
		_, _ = w.Write([]byte("ready\n")) // the client may be gone
	}
}

// readiness remembers the last answer for a moment: anybody can ask, and what answers is the store.
type readiness struct {
	mu    sync.Mutex
	asked time.Time
	err   error
}

// How long an answer is remembered. Whoever waits for a service to be ready asks often, and shall not wait for that.
const (
	readyAge   = time.Second
	unreadyAge = readyAge / 10
)

// ask returns whether the service is ready, and whether that has changed.
func (a *readiness) ask(ctx context.Context, ready func(context.Context) error) (changed bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	most := readyAge
	if a.err != nil {
		most = unreadyAge
	}
	first := a.asked.IsZero()
	if !first && time.Since(a.asked) < most {
		return false, a.err
	}
	was := a.err
	a.err = ready(context.WithoutCancel(ctx))
	a.asked = time.Now()
	return first || (was == nil) != (a.err == nil), a.err
}

// client is the address by which requests are counted: an IPv6 client is its /64.
func client(r *http.Request) netip.Prefix { return address(r.RemoteAddr) }

func address(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 32
	if ip = ip.Unmap(); ip.Is6() {
		bits = 64
	}
	p, err := ip.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// method returns the method if it is one that is known, so that logs hold no text of clients.
func method(r *http.Request) string {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return r.Method
	}
	return "other"
}

// Problem answers with a document of RFC 9457.
func Problem(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	b, err := json.Marshal(map[string]any{
		"type": "about:blank", "title": http.StatusText(status), "status": status, "code": code, "detail": message,
		"requestID": RequestID(r.Context()),
	})
	if err != nil {
		http.Error(w, code, status)
		return
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_, _ = w.Write(append(b, '\n')) // the client may be gone
}

// statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter

	code    int
	written int64
}

func (w *statusWriter) status() int {
	if w.code == 0 {
		return http.StatusOK
	}
	return w.code
}

// WriteHeader implements http.ResponseWriter.
func (w *statusWriter) WriteHeader(code int) {
	if w.code == 0 {
		w.code = code
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements http.ResponseWriter.
func (w *statusWriter) Write(b []byte) (int, error) {
	if w.code == 0 {
		w.code = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.written += int64(n)
	return n, err
}

// Unwrap serves http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// discardNoise keeps what clients provoke, such as failed handshakes, out of logs above the debug level.
type discardNoise struct{ slog.Handler }

// Handle implements slog.Handler.
func (h discardNoise) Handle(ctx context.Context, rec slog.Record) error {
	if strings.Contains(rec.Message, "TLS handshake error") {
		return nil
	}
	return h.Handler.Handle(ctx, rec)
}
