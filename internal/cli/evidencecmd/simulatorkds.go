// SPDX-License-Identifier: Apache-2.0

package evidencecmd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/cli/console"
	"cofferdam.dev/internal/simsp"
	"cofferdam.dev/internal/simsp/kds"
)

// Limits of the simulated key distribution service.
const (
	kdsRequestTime = 10 * time.Second
	kdsGrace       = 2 * time.Second
	kdsHeaderBytes = 16 << 10
)

func (a *App) simulatorKDSCommand() *cobra.Command {
	var listen string
	var pace time.Duration
	c := &cobra.Command{
		Use:   "kds",
		Short: "Serve the simulated machine's certificates, as AMD serves those of its chips",
		Long: `Serve the certificates and revocation lists of this installation's simulated processor,
under the paths of AMD's key distribution service, until interrupted. The service's URL is
printed; give it to ` + "`cofferdam verify --fetch --kds URL`" + `. With --pace requests that come
earlier are refused with 429, as AMD's service refuses them.

What is served is public and signed under the simulated root. It says nothing of hardware.`,
		Example: `  cofferdam simulator kds
  cofferdam simulator kds --listen 127.0.0.1:8099 --pace 10s`,
		Args: console.Arguments(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if pace < 0 {
				return console.Usage(cmd, fmt.Sprintf("--pace is %s; want no time, or some", pace))
			}
			ctx, stop := console.Interruptible(cmd.Context())
			defer stop()
			return a.serveKDS(ctx, listen, pace)
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "address to listen on; port 0 takes a free one")
	c.Flags().DurationVar(&pace, "pace", 0, "least time between two answers")
	return c
}

// serveKDS serves until ctx ends.
func (a *App) serveKDS(ctx context.Context, listen string, pace time.Duration) error {
	p, err := simsp.Open(a.simulatorDir())
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", listen)
	if err != nil {
		return fmt.Errorf("serving certificates: %w", err)
	}
	log := slog.New(slog.NewTextHandler(a.Err, nil))
	server := &http.Server{
		Handler: kds.New(p, kds.Options{Pace: pace, Log: log}), ReadTimeout: kdsRequestTime, WriteTimeout: kdsRequestTime,
		MaxHeaderBytes: kdsHeaderBytes, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	_, err = fmt.Fprintf(a.Out, "http://%s\n", l.Addr())
	if err != nil {
		return errors.Join(fmt.Errorf("writing the answer: %w", err), l.Close())
	}
	a.Say("simulated certificates only; end with Ctrl-C")
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err = <-ended:
		return fmt.Errorf("serving certificates: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), kdsGrace)
	defer cancel()
	err = server.Shutdown(grace)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	served := <-ended
	if !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("ending the service: %w", err)
	}
	return nil
}
