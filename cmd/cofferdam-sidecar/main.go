// SPDX-License-Identifier: Apache-2.0

// Command cofferdam-sidecar is the program of the sidecar image: the sidecars of cofferdam and nothing else, small enough to
// start at once in an emulated machine. Called skr.sh or skr, as templates for the original images do, it is the release
// sidecar; else its first argument says which sidecar it is. What it imports is trusted by every group that lists it, and
// is in imports.txt.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"cofferdam.dev/internal/sidecar/program"
)

// sidecar is one of the roles.
type sidecar interface {
	Flags(f *flag.FlagSet)
	Complete(args []string, lookup func(string) (string, bool)) error
	Run(ctx context.Context, p program.Process) error
}

// Exit codes, as cofferdam has them.
const (
	exitError = 1
	exitUsage = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	err := run(ctx, os.Args[0], os.Args[1:])
	stop()
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return
	}
	fmt.Fprintln(os.Stderr, "cofferdam-sidecar:", err)
	if _, ok := errors.AsType[*program.UsageError](err); ok {
		os.Exit(exitUsage)
	}
	os.Exit(exitError)
}

func run(ctx context.Context, called string, args []string) error {
	roles := map[string]sidecar{"skr": &program.SKR{}, "encfs": &program.EncFS{}}
	name, args := program.Arguments(called, args)
	role, ok := roles[name]
	if !ok {
		return &program.UsageError{Message: "want the name of a sidecar: skr or encfs"}
	}
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	role.Flags(f)
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return &program.UsageError{Message: err.Error()}
	}
	if err := role.Complete(f.Args(), os.LookupEnv); err != nil {
		return err
	}
	return role.Run(ctx, program.Process{Out: os.Stdout, Err: os.Stderr, LookupEnv: os.LookupEnv})
}
