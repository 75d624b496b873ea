// SPDX-License-Identifier: Apache-2.0

package program

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"cofferdam.dev/attest"
	"cofferdam.dev/internal/sidecar/skr"
	"cofferdam.dev/release"
)

// Ports of the release sidecar where none is said.
const (
	skrPort     = "8080"
	skrGRPCPort = "50000"
)

// resultFile is where the original's script leaves whether the sidecar has ended well.
const resultFile = "result"

// maxSecret bounds a secret that is wrapped, in bytes.
const maxSecret = 1 << 10

// SKR is the release sidecar as its flags describe it. The zero value is not useful: Flags fills it in.
type SKR struct {
	config, serverType        string
	port, grpcPort            string
	logLevel, logFile         string
	allowMismatched           bool
	inFile, keyPath, outFile  string
	provider, socket, caller  string
	authorities, keyDirectory string
	result                    string
	challenge                 bool
	pool, bits, uses          int
	life                      time.Duration
}

// Flags defines the flags.
func (o *SKR) Flags(f *flag.FlagSet) {
	f.StringVar(&o.config, "base64", "", "`configuration`, JSON or that in base64 ($SkrSideCarArgs)")
	f.StringVar(&o.port, "port", "", "`port` on the loopback address ($Port; default 8080, or 50000 for grpc alone)")
	f.StringVar(&o.grpcPort, "grpc-port", skrGRPCPort, "`port` of gRPC, when both are served")
	f.StringVar(&o.serverType, "server-type", "", "http, grpc or both ($ServerType; default http)")
	f.StringVar(&o.logLevel, "loglevel", "", "trace, debug, info, warning, error, fatal or panic ($LogLevel; default info)")
	f.StringVar(&o.logFile, "logfile", "", "`file` to log to ($LogFile; default: standard error)")
	f.BoolVar(&o.allowMismatched, "allow-testing-mismatched-tcb", false, "send certificates under another TCB, when there are no others; for tests")
	f.StringVar(&o.provider, "provider", autoProvider, "where reports come from: auto, socket, configfs, tdx, sev-guest or sev")
	f.StringVar(&o.socket, "socket", attest.SocketPath, "where the agent's socket is")
	f.StringVar(&o.authorities, "authorities", "", "`file` of the authorities of the servers and of vaults' answers, in PEM ($COFFERDAM_AUTHORITIES; default: the system's)")
	f.StringVar(&o.caller, "identity", "auto", "whose access tokens a request without one gets: auto or none")
	f.BoolVar(&o.challenge, "challenge", false, "put a nonce of the attestation service into the evidence (cofferdam's has them)")
	f.DurationVar(&o.life, "session-life", release.DefaultSessionLife, "how long a wrapping key and the token over it are used; 0s makes new ones each time")
	f.IntVar(&o.uses, "session-uses", release.DefaultSessionUses, "for how many releases they are used")
	f.IntVar(&o.pool, "pool", 2, "how many wrapping keys are made before they are needed")
	f.IntVar(&o.bits, "wrapping-bits", release.DefaultWrappingBits, "size of wrapping keys: 2048, 3072 or 4096")
	f.StringVar(&o.keyDirectory, "key-directory", "", "`directory` of public keys that the key provider may wrap with (default: none)")
	f.StringVar(&o.result, "result-file", "", "`file` that gets 1 when the sidecar has ended well, and 0 when it has not")
	f.StringVar(&o.inFile, "infile", "", "secret to wrap")
	f.StringVar(&o.keyPath, "keypath", "", "key to wrap it with: PATH of PATH-info.json")
	f.StringVar(&o.outFile, "outfile", "", "where the wrapped secret is written")
}

// Complete takes over arguments and environment where flags say nothing, and checks what came out.
func (o *SKR) Complete(args []string, lookup func(string) (string, bool)) error {
	if len(args) > 2 {
		return usage("skr wants at most a configuration and a port, got %d arguments", len(args))
	}
	for _, s := range []struct {
		to  *string
		env string
		arg int
	}{{&o.config, "SkrSideCarArgs", 0}, {&o.port, "Port", 1}, {&o.serverType, "ServerType", -1}, {&o.logLevel, "LogLevel", -1}, {&o.logFile, "LogFile", -1}} {
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
		return usage("--server-type is %q; want http, grpc or both", o.serverType)
	}
	if o.port == "" {
		if o.port = skrPort; o.serverType == "grpc" {
			o.port = skrGRPCPort
		}
	}
	for _, p := range []string{o.port, o.grpcPort} {
		if _, err := strconv.ParseUint(p, 10, 16); err != nil {
			return usage("the port is %q; want a number up to 65535", p)
		}
	}
	if o.caller != "auto" && o.caller != "none" {
		return usage("--identity is %q; want auto or none", o.caller)
	}
	if _, ok := providers[o.provider]; !ok {
		return usage("--provider is %q; want auto, socket, configfs, tdx, sev-guest or sev", o.provider)
	}
	if _, ok := levels[strings.ToLower(o.logLevel)]; !ok {
		return usage("--loglevel is %q; want trace, debug, info, warning, error, fatal or panic", o.logLevel)
	}
	wrapping := 0
	for _, s := range []string{o.inFile, o.keyPath, o.outFile} {
		if s != "" {
			wrapping++
		}
	}
	if wrapping != 0 && wrapping != 3 {
		return usage("--infile, --keypath and --outfile go together")
	}
	return nil
}

// wrap wraps a secret for the key provider.
func (o *SKR) wrap() error {
	secret, err := readFile(o.inFile, maxSecret)
	if err != nil {
		return fmt.Errorf("reading the secret: %w", err)
	}
	defer clear(secret)
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

// levels are those of the original.
var levels = map[string]slog.Level{
	"": slog.LevelInfo, "trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn,
	"warn": slog.LevelWarn, "error": slog.LevelError, "fatal": slog.LevelError, "panic": slog.LevelError,
}

// log opens the log.
func (o *SKR) log(to io.Writer) (*slog.Logger, func() error, error) {
	end := func() error { return nil }
	if o.logFile != "" {
		f, err := os.OpenFile(o.logFile, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return nil, nil, fmt.Errorf("opening the log: %w", err)
		}
		to, end = f, f.Close
	}
	return slog.New(slog.NewJSONHandler(to, &slog.HandlerOptions{Level: levels[strings.ToLower(o.logLevel)]})), end, nil
}

// readFile reads a file of at most so many bytes.
func readFile(name string, most int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // it was only read
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s has more than %d bytes", name, most)
	}
	return b, err
}
