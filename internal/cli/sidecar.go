// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cofferdam.dev/attest"
	"cofferdam.dev/internal/sidecar/skr"
	"cofferdam.dev/release"
)

// Ports of the release sidecar where none is said.
const (
	skrPort     = 8080
	skrGRPCPort = 50000
)

// skrOptions are the flags of the release sidecar.
type skrOptions struct {
	config, serverType        string
	port, grpcPort            int
	logLevel, logFile         string
	allowMismatched           bool
	inFile, keyPath, outFile  string
	provider, socket, caller  string
	authorities, keyDirectory string
	challenge                 bool
	pool, bits, uses          int
	life                      time.Duration
}

func (a *app) sidecarCommand() *cobra.Command {
	c := noun("sidecar", "Be a sidecar of a container group", a.sidecarSKRCommand())
	// Containers often have no HOME, and a sidecar keeps no state.
	c.PersistentPreRunE = func(*cobra.Command, []string) error { return nil }
	return c
}

func (a *app) sidecarSKRCommand() *cobra.Command {
	o := &skrOptions{}
	c := &cobra.Command{
		Use:   "skr [CONFIGURATION [PORT]]",
		Short: "Give the containers of a group evidence, tokens and released keys",
		Long: `Be the release sidecar of a container group: a small server on the loopback address, from
which the other containers of the group get evidence of the group (/attest/raw,
/attest/combined), an attestation service's token (/attest/maa), keys that a vault releases
to proven code alone (/key/release), and secrets that such a key wraps (/unwrap). The gRPC
server is a key provider for encrypted images. Protocols, environment and flags are those
of the sidecar that container groups on Azure use, so that applications run unchanged.

Configuration is its JSON, as it is or in base64. The environment variables SkrSideCarArgs,
Port, ServerType, LogLevel and LogFile say what flags and arguments do not. Access tokens
for the vault come from the request, or from the group's identity: AZURE_CLIENT_ID and
AZURE_TENANT_ID with AZURE_FEDERATED_TOKEN_FILE or AZURE_CLIENT_SECRET, IDENTITY_ENDPOINT,
or the machine's metadata service.

Reports come from the agent's socket or the processor's device. Where there is none the
sidecar ends with an error: nothing is ever made up.

With --infile a secret is wrapped for the key provider instead, and nothing is served.`,
		Example: `  cofferdam sidecar skr
  cofferdam sidecar skr --server-type both --port 8081 --authorities /run/ca.pem
  cofferdam sidecar skr --infile layer.key --keypath keys/db --outfile annotation.json`,
		Args: arguments(0, 2, "at most a configuration and a port"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := o.complete(cmd, args, a.LookupEnv); err != nil {
				return err
			}
			if o.inFile != "" {
				return o.wrap()
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			return a.serveSKR(ctx, cmd, o)
		},
	}
	f := c.Flags()
	f.StringVar(&o.config, "base64", "", "configuration, JSON or that in base64 ($SkrSideCarArgs)")
	f.IntVar(&o.port, "port", 0, "port on the loopback address ($Port; default 8080, or 50000 for grpc alone)")
	f.IntVar(&o.grpcPort, "grpc-port", skrGRPCPort, "port of gRPC, when both are served")
	f.StringVar(&o.serverType, "server-type", "", "http, grpc or both ($ServerType; default http)")
	f.StringVar(&o.logLevel, "loglevel", "", "trace, debug, info, warning, error, fatal or panic ($LogLevel; default info)")
	f.StringVar(&o.logFile, "logfile", "", "file to log to ($LogFile; default: standard error)")
	f.BoolVar(&o.allowMismatched, "allow-testing-mismatched-tcb", false, "send certificates under another TCB, when there are no others; for tests")
	f.StringVar(&o.provider, "provider", autoProvider, "where reports come from: auto, socket, configfs, tdx, sev-guest or sev")
	f.StringVar(&o.socket, "socket", attest.SocketPath, "where the agent's socket is")
	f.StringVar(&o.authorities, "authorities", "", "authorities of the servers and of vaults' answers, in PEM (default: the system's)")
	f.StringVar(&o.caller, "identity", "auto", "whose access tokens a request without one gets: auto or none")
	f.BoolVar(&o.challenge, "challenge", false, "put a nonce of the attestation service into the evidence (cofferdam's has them)")
	f.DurationVar(&o.life, "session-life", release.DefaultSessionLife, "how long a wrapping key and the token over it are used; 0s makes new ones each time")
	f.IntVar(&o.uses, "session-uses", release.DefaultSessionUses, "for how many releases they are used")
	f.IntVar(&o.pool, "pool", 2, "how many wrapping keys are made before they are needed")
	f.IntVar(&o.bits, "wrapping-bits", release.DefaultWrappingBits, "size of wrapping keys: 2048, 3072 or 4096")
	f.StringVar(&o.keyDirectory, "key-directory", "", "directory of public keys that the key provider may wrap with (default: none)")
	f.StringVar(&o.inFile, "infile", "", "secret to wrap")
	f.StringVar(&o.keyPath, "keypath", "", "key to wrap it with: PATH of PATH-info.json")
	f.StringVar(&o.outFile, "outfile", "", "where the wrapped secret is written")
	return c
}

// complete takes over arguments and environment, and checks what came out.
func (o *skrOptions) complete(cmd *cobra.Command, args []string, lookup func(string) (string, bool)) error {
	port := ""
	if cmd.Flags().Changed("port") {
		port = strconv.Itoa(o.port)
	}
	for _, s := range []struct {
		to  *string
		env string
		arg int
	}{{&o.config, "SkrSideCarArgs", 0}, {&port, "Port", 1}, {&o.serverType, "ServerType", -1}, {&o.logLevel, "LogLevel", -1}, {&o.logFile, "LogFile", -1}} {
		if *s.to == "" {
			*s.to, _ = lookup(s.env)
		}
		if *s.to == "" && s.arg >= 0 && s.arg < len(args) {
			*s.to = args[s.arg]
		}
	}
	if o.serverType == "" {
		o.serverType = "http"
	}
	if !slices.Contains([]string{"http", "grpc", "both"}, o.serverType) {
		return usage(cmd, fmt.Sprintf("--server-type is %q; want http, grpc or both", o.serverType))
	}
	if o.port = skrPort; o.serverType == "grpc" {
		o.port = skrGRPCPort
	}
	if port != "" {
		n, err := strconv.Atoi(port)
		if err != nil || n < 0 || n > 65535 {
			return usage(cmd, fmt.Sprintf("the port is %q; want a number up to 65535", port))
		}
		o.port = n
	}
	if o.caller != "auto" && o.caller != "none" {
		return usage(cmd, fmt.Sprintf("--identity is %q; want auto or none", o.caller))
	}
	if _, ok := providers()[o.provider]; !ok || o.provider == "sgx" {
		return usage(cmd, fmt.Sprintf("--provider is %q; want auto, socket, configfs, tdx, sev-guest or sev", o.provider))
	}
	wrapping := 0
	for _, s := range []string{o.inFile, o.keyPath, o.outFile} {
		if s != "" {
			wrapping++
		}
	}
	if wrapping != 0 && wrapping != 3 {
		return usage(cmd, "--infile, --keypath and --outfile go together")
	}
	return nil
}

// wrap wraps a secret for the key provider.
func (o *skrOptions) wrap() error {
	secret, err := readLimited(o.inFile, nil, 1<<10)
	if err != nil {
		return fmt.Errorf("reading the secret: %w", err)
	}
	path, err := filepath.Abs(o.keyPath)
	if err != nil {
		return err
	}
	b, err := skr.WrapOffline("/", strings.TrimPrefix(path, "/"), secret)
	if err != nil {
		return err
	}
	if err := os.WriteFile(o.outFile, b, 0o600); err != nil {
		return fmt.Errorf("writing the wrapped secret: %w", err)
	}
	return nil
}

// log opens the log. Levels are those of the original.
func (o *skrOptions) log(cmd *cobra.Command, to io.Writer) (*slog.Logger, func() error, error) {
	levels := map[string]slog.Level{
		"": slog.LevelInfo, "trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn,
		"warn": slog.LevelWarn, "error": slog.LevelError, "fatal": slog.LevelError, "panic": slog.LevelError,
	}
	level, ok := levels[strings.ToLower(o.logLevel)]
	if !ok {
		return nil, nil, usage(cmd, fmt.Sprintf("--loglevel is %q; want trace, debug, info, warning, error, fatal or panic", o.logLevel))
	}
	end := func() error { return nil }
	if o.logFile != "" {
		f, err := os.OpenFile(o.logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("opening the log: %w", err)
		}
		to, end = f, f.Close
	}
	return slog.New(slog.NewJSONHandler(to, &slog.HandlerOptions{Level: level})), end, nil
}
