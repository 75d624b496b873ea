// SPDX-License-Identifier: Apache-2.0

package program

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/sidecar/skr"
	"cofferdam.dev/internal/wholefile"
	"cofferdam.dev/release"
)

// requestTime is how long a request may take: two servers are asked, each three times for twenty seconds.
const requestTime = 3 * time.Minute

// skrDrain is how long running calls get when the sidecar ends.
const skrDrain = 10 * time.Second

// Run does what the flags say: it wraps a secret, or serves until ctx ends.
func (o *SKR) Run(ctx context.Context, p Process) (err error) {
	defer func() { err = errors.Join(err, o.leaveResult(err == nil)) }()
	if o.inFile != "" {
		return o.wrap()
	}
	log, end, err := o.log(p.Err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	s, pool, err := o.open(ctx, p, log)
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return pool.Run(ctx) })
	if err := o.listen(ctx, g, p, s, poolReady(pool), log); err != nil {
		return err
	}
	return g.Wait()
}

// leaveResult writes the result file, if there is to be one.
func (o *SKR) leaveResult(well bool) error {
	if o.result == "" {
		return nil
	}
	text := "0\n"
	if well {
		text = "1\n"
	}
	if err := wholefile.Replace(o.result, []byte(text), 0o644); err != nil { // others read it, who must not find half of it
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// poolReady is ready once there was a wrapping key.
func poolReady(p *release.Pool) func(context.Context) error {
	var was atomic.Bool
	return func(context.Context) error {
		if p.Len() > 0 {
			was.Store(true)
		}
		if !was.Load() {
			return errors.New("no wrapping key is made yet")
		}
		return nil
	}
}

// listen opens the listeners, and serves in g.
func (o *SKR) listen(ctx context.Context, g *errgroup.Group, p Process, s *skr.Server, ready func(context.Context) error, log *slog.Logger) error {
	if o.serverType != "grpc" {
		srv, err := serve.New(ctx, serve.Options{
			Name: "skr", Address: net.JoinHostPort("127.0.0.1", o.port), Handler: s, Error: skr.Error, Ready: ready, Log: log,
			Limits: serve.Limits{Request: requestTime},
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(p.Out, "http://"+srv.Addr()); err != nil {
			return fmt.Errorf("writing the answer: %w", err)
		}
		g.Go(func() error { return srv.Run(ctx) })
	}
	if o.serverType == "http" {
		return nil
	}
	port := o.grpcPort
	if o.serverType == "grpc" {
		port = o.port
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.Out, "grpc://"+l.Addr().String()); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	server := skr.NewGRPC(s)
	g.Go(func() error {
		if err := server.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("serving gRPC: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		late := time.AfterFunc(skrDrain, server.Stop) // a stream can last
		server.GracefulStop()
		late.Stop()
		return nil
	})
	return nil
}
