// SPDX-License-Identifier: Apache-2.0

package program

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"cofferdam.dev/internal/serve"
	"cofferdam.dev/internal/sidecar/encfs"
	"cofferdam.dev/internal/sidecar/skr"
	"cofferdam.dev/internal/volume/anchor"
	"cofferdam.dev/internal/volume/blob"
	"cofferdam.dev/internal/volume/blob/azure"
	"cofferdam.dev/internal/volume/shadow"
	"cofferdam.dev/release"
)

// encfsEnd is how long all filesystems together get to be unmounted.
const encfsEnd = time.Minute

// EncFS is the filesystem sidecar as its flags describe it. The zero value is not useful: Flags fills it in.
type EncFS struct {
	skr    SKR // the part that has keys released
	config string
	port   string
	files  string
	wait   time.Duration
}

// Flags defines the flags.
func (o *EncFS) Flags(f *flag.FlagSet) {
	hidden := flag.NewFlagSet("", flag.ContinueOnError)
	o.skr.Flags(hidden) // the defaults of what has no flag here
	f.StringVar(&o.config, "base64", "", "`configuration`, JSON or that in base64 ($EncfsSideCarArgs)")
	f.StringVar(&o.port, "port", "", "`port` on the loopback address that says where the filesystems stand ($EncfsPort; default: none)")
	f.StringVar(&o.files, "files", "", "`directory` for private mounts (default: the system's for temporary files)")
	f.DurationVar(&o.wait, "wait", encfs.DefaultWait, "for how long servers that can not answer yet are tried again")
	f.StringVar(&o.skr.logLevel, "loglevel", "", "trace, debug, info, warning, error, fatal or panic ($LogLevel; default info)")
	f.StringVar(&o.skr.logFile, "logfile", "", "`file` to log to ($LogFile; default: standard error)")
	f.BoolVar(&o.skr.allowMismatched, "allow-testing-mismatched-tcb", false, "send certificates under another TCB, when there are no others; for tests")
	f.StringVar(&o.skr.provider, "provider", o.skr.provider, "where reports come from: auto, socket, configfs, tdx, sev-guest or sev")
	f.StringVar(&o.skr.socket, "socket", o.skr.socket, "where the agent's socket is")
	f.StringVar(&o.skr.authorities, "authorities", "", "`file` of the authorities of servers and of vaults' answers, in PEM ($COFFERDAM_AUTHORITIES; default: the system's)")
	f.StringVar(&o.skr.caller, "identity", o.skr.caller, "whose access tokens vaults and private storage get: auto or none")
	f.BoolVar(&o.skr.challenge, "challenge", false, "put a nonce of the attestation service into the evidence (cofferdam's has them)")
	f.StringVar(&o.skr.result, "result-file", "", "`file` that gets 1 when all is mounted, and 0 when something can not be")
}

// Complete takes over arguments and environment where flags say nothing, and checks what came out.
func (o *EncFS) Complete(args []string, lookup func(string) (string, bool)) error {
	if len(args) > 1 {
		return usage("encfs wants at most a configuration, got %d arguments", len(args))
	}
	if len(args) == 1 && o.config == "" {
		o.config = args[0]
	}
	for env, to := range map[string]*string{"EncfsSideCarArgs": &o.config, "EncfsPort": &o.port} {
		if *to == "" {
			*to, _ = lookup(env)
		}
	}
	if strings.TrimSpace(o.config) == "" {
		return usage("there is no configuration: EncfsSideCarArgs, --base64, or an argument")
	}
	if o.port != "" {
		if _, err := strconv.ParseUint(o.port, 10, 16); err != nil {
			return usage("the port is %q; want a number up to 65535", o.port)
		}
	}
	// The release sidecar's own environment is not ours; what is the same is checked there.
	return o.skr.Complete(nil, func(name string) (string, bool) {
		if name == "LogLevel" || name == "LogFile" {
			return lookup(name)
		}
		return "", false
	})
}

// Run mounts the filesystems, and keeps them until ctx ends.
func (o *EncFS) Run(ctx context.Context, p Process) (err error) {
	log, end, err := o.skr.log(p.Err)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	s, pool, err := o.open(ctx, p, log)
	if err != nil {
		return errors.Join(err, o.skr.leaveResult(false))
	}
	defer func() {
		late, stop := context.WithTimeout(context.WithoutCancel(ctx), encfsEnd)
		defer stop()
		err = errors.Join(err, s.Close(late))
	}()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return pool.Run(ctx) })
	if err := o.listen(ctx, g, p, s, log); err != nil {
		return errors.Join(err, o.skr.leaveResult(false))
	}
	g.Go(func() error {
		err := s.Mount(ctx)
		if err := errors.Join(err, o.skr.leaveResult(err == nil)); err != nil {
			return err
		}
		_, err = fmt.Fprintln(p.Out, "mounted")
		return err
	})
	return g.Wait()
}

func (o *EncFS) open(ctx context.Context, p Process, log *slog.Logger) (*encfs.Sidecar, *release.Pool, error) {
	config, err := encfs.ParseConfig(o.config)
	if err != nil {
		return nil, nil, err
	}
	info := &skr.AzureInformation{}
	if len(config.Azure) > 0 {
		if info, err = skr.ParseAzureInformation(string(config.Azure)); err != nil {
			return nil, nil, err
		}
	}
	c, err := o.skr.connect(ctx, p, info, log)
	if err != nil {
		return nil, nil, err
	}
	public := blob.Options{HTTP: blob.NewHTTPClient(c.roots)}
	private := public
	if c.credential != nil {
		private.Token = azure.Identity(c.credential)
	}
	s, err := encfs.New(encfs.Options{
		Config: config, Releaser: encfs.FromClient(c.client), Anchor: c.anchor, Public: public, Private: private, CacheBytes: memoryLimit() / cacheShare,
		Files: o.files, Wait: o.wait, Log: log,
	})
	return s, c.pool, err
}

// cacheShare is the part of the container's memory that blocks of volumes take: one in so many. The kernel's own cache of what is
// mounted counts as the container's, too.
const cacheShare = 4

// memoryLimit is how much memory the container may have, in bytes; zero is not known.
func memoryLimit() int64 {
	b, err := os.ReadFile("/sys/fs/cgroup/memory.max")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	if err != nil { // "max"
		return 0
	}
	return n
}

// anchor is in the counters of a vault, which learns by the group's identity who asks.
func (c *connection) anchor(vault string) (shadow.Anchor, error) {
	u, err := release.ParseEndpoint(vault)
	if err != nil {
		return nil, err
	}
	return &anchor.Vault{
		URL: u.String(), HTTP: release.NewHTTPClient(c.roots),
		Authorize: func(ctx context.Context, f func(string) error) error { return c.client.Authorized(ctx, vault, f) },
	}, nil
}

// listen opens the listener that says where the filesystems stand, if there is to be one.
func (o *EncFS) listen(ctx context.Context, g *errgroup.Group, p Process, s *encfs.Sidecar, log *slog.Logger) error {
	if o.port == "" {
		return nil
	}
	srv, err := serve.New(ctx, serve.Options{Name: "encfs", Address: net.JoinHostPort("127.0.0.1", o.port), Handler: s, Ready: s.Ready, Log: log})
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintln(p.Out, "http://"+srv.Addr()); err != nil {
		return fmt.Errorf("writing the answer: %w", err)
	}
	g.Go(func() error { return srv.Run(ctx) })
	return nil
}
