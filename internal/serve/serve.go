// SPDX-License-Identifier: Apache-2.0

// Package serve is the frame in which every service role runs: listeners with TLS, bounds on everything that a client can
// send or hold up, request IDs, logs without the content of requests, metrics with a closed set of labels, health answers,
// and an orderly end.
//
// Clients are hostile. A service's handler is trusted to answer; should it panic, the request fails and the service goes
// on. The package never logs a header, a query, a body or a path, all of which may hold secrets or a tenant's data.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// Limits bound what clients can do. Zero fields are replaced by those of DefaultLimits.
type Limits struct {
	// Body and Header are in bytes.
	Body   int64
	Header int
	// Read is for reading a whole request, Request for answering it, Idle for a connection without one.
	Read    time.Duration
	Request time.Duration
	Idle    time.Duration
	// Concurrent requests are served at a time, and Memory bounds their bodies together in bytes; more are turned away. One
	// address can have a quarter of each.
	Concurrent int
	Memory     int64
	// Connections are open at a time; more wait. One address can have a quarter of them.
	Connections int
	// ClientRate and ClientBurst bound the requests of one address per second. Zero rate is no bound.
	ClientRate  float64
	ClientBurst int
}

// DefaultLimits are for services whose requests are documents of some hundred kilobytes at most.
var DefaultLimits = Limits{
	Body: 1 << 20, Header: 32 << 10, Read: 10 * time.Second, Request: 30 * time.Second, Idle: time.Minute,
	Concurrent: 512, Memory: 128 << 20, Connections: 4096,
}

func (l Limits) withDefaults() Limits {
	d := DefaultLimits
	set(&l.Body, d.Body)
	set(&l.Header, d.Header)
	set(&l.Read, d.Read)
	set(&l.Request, d.Request)
	set(&l.Idle, d.Idle)
	set(&l.Concurrent, d.Concurrent)
	set(&l.Memory, max(d.Memory, l.Body))
	set(&l.Connections, d.Connections)
	set(&l.ClientBurst, max(1, int(2*l.ClientRate)))
	return l
}

func (l *Limits) check() error {
	least := min(l.Body, int64(l.Header), int64(l.Read), int64(l.Request), int64(l.Idle), int64(l.Concurrent), l.Memory, int64(l.Connections),
		int64(l.ClientBurst))
	if least < 0 || !(l.ClientRate >= 0) { // which is not so for what is no number, either
		return errors.New("a limit is negative")
	}
	return nil
}

func set[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// ErrorFunc answers a request with an error in the form of the service's protocol. Code is one of the constants below.
type ErrorFunc func(w http.ResponseWriter, r *http.Request, status int, code, message string)

// Codes of errors that the frame itself answers.
const (
	CodeTooLarge    = "RequestTooLarge"
	CodeTooMany     = "TooManyRequests"
	CodeOverloaded  = "Overloaded"
	CodeInternal    = "InternalError"
	CodeTimeout     = "RequestTimeout"
	CodeNotFound    = "NotFound"
	CodeUnavailable = "Unavailable"
)

// Options are what a server is made of.
type Options struct {
	// Name is the role's, for logs and metrics.
	Name string
	// Address is host:port; port 0 takes a free one.
	Address string
	// Listener, if set, is where the service listens instead: a socket that somebody else has opened. It is the server's.
	Listener net.Listener
	// TLS is what the server presents. It may be nil on a loopback address or a Unix socket alone.
	TLS *tls.Config
	// Handler answers. Each route should be wrapped by Route, so that metrics and logs can name it.
	Handler http.Handler
	// Error writes the frame's own errors; nil is a problem+json document.
	Error ErrorFunc
	// Ready says whether the service can answer; nil is always.
	Ready func(context.Context) error
	// MetricsAddress is where /metrics is served, without TLS; empty is nowhere.
	MetricsAddress string
	// Drain is how long running requests get when the service ends; zero is 10 seconds.
	Drain  time.Duration
	Limits Limits
	Log    *slog.Logger
}

// Server is a service that listens.
type Server struct {
	opts    Options
	main    *http.Server
	metrics *http.Server
	lis     net.Listener
	metLis  net.Listener
	frame   *frame
}

// New opens the listeners. Run serves.
func New(ctx context.Context, opts Options) (*Server, error) {
	s, err := newServer(ctx, opts)
	if err != nil {
		return nil, fmt.Errorf("starting %s: %w", opts.Name, err)
	}
	return s, nil
}

func newServer(ctx context.Context, opts Options) (*Server, error) {
	if opts.Handler == nil || opts.Name == "" {
		return nil, errors.New("it has no handler or no name")
	}
	opts.Limits = opts.Limits.withDefaults()
	if err := opts.Limits.check(); err != nil {
		return nil, err
	}
	set(&opts.Drain, 10*time.Second)
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	if opts.Error == nil {
		opts.Error = Problem
	}
	local := false
	if opts.Listener != nil {
		opts.Address = opts.Listener.Addr().String()
		_, local = opts.Listener.Addr().(*net.UnixAddr)
	}
	if opts.TLS == nil && !local && !loopback(opts.Address) {
		return nil, fmt.Errorf("address %s without TLS: only a loopback address or a Unix socket may go without", opts.Address)
	}
	s := &Server{opts: opts, frame: newFrame(opts), lis: opts.Listener}
	var lc net.ListenConfig
	var err error
	if s.lis == nil {
		s.lis, err = lc.Listen(ctx, "tcp", opts.Address)
	}
	if err != nil {
		return nil, err
	}
	s.lis = limitListener(s.lis, opts.Limits.Connections)
	if opts.TLS != nil {
		s.lis = tls.NewListener(s.lis, opts.TLS)
	}
	s.main = s.server(s.frame)
	if opts.MetricsAddress != "" {
		if s.metLis, err = lc.Listen(ctx, "tcp", opts.MetricsAddress); err != nil {
			_ = s.lis.Close() // the first error says what happened
			return nil, err
		}
		s.metrics = s.server(s.frame.metrics.handler())
	}
	return s, nil
}

func (s *Server) server(h http.Handler) *http.Server {
	l := s.opts.Limits
	return &http.Server{
		Handler: h, ReadHeaderTimeout: l.Read, ReadTimeout: l.Read, WriteTimeout: l.Read + l.Request, IdleTimeout: l.Idle,
		MaxHeaderBytes: l.Header, ErrorLog: slog.NewLogLogger(discardNoise{s.opts.Log.Handler()}, slog.LevelDebug),
	}
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	ip := net.ParseIP(host)
	return err == nil && ip != nil && ip.IsLoopback()
}

// Addr returns the address on which the service listens.
func (s *Server) Addr() string { return s.lis.Addr().String() }

// MetricsAddr returns the address of /metrics, or "".
func (s *Server) MetricsAddr() string {
	if s.metLis == nil {
		return ""
	}
	return s.metLis.Addr().String()
}

// Run serves until ctx ends, then lets running requests end, and returns nil. It returns an error when a listener fails.
func (s *Server) Run(ctx context.Context) error {
	s.opts.Log.Info("serving", slog.String("role", s.opts.Name), slog.String("address", s.Addr()),
		slog.String("metrics", s.MetricsAddr()), slog.Bool("tls", s.opts.TLS != nil))
	failed := make(chan error, 2)
	var wg sync.WaitGroup
	start := func(srv *http.Server, l net.Listener) {
		wg.Go(func() {
			if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				failed <- err
			}
		})
	}
	start(s.main, s.lis)
	if s.metrics != nil {
		start(s.metrics, s.metLis)
	}
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
		err = fmt.Errorf("serving %s: %w", s.opts.Name, err)
	}
	s.frame.draining.Store(true)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.opts.Drain)
	defer cancel()
	for _, srv := range []*http.Server{s.main, s.metrics} {
		if srv == nil {
			continue
		}
		if e := srv.Shutdown(end); e != nil {
			s.opts.Log.Warn("requests were cut off at the end", slog.String("role", s.opts.Name), slog.Any("error", e))
			_ = srv.Close() // nothing is left to wait for
		}
	}
	wg.Wait()
	s.opts.Log.Info("ended", slog.String("role", s.opts.Name))
	return err
}
