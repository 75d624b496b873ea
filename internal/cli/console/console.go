// SPDX-License-Identifier: Apache-2.0

// Package console is what all commands of the command line share: the streams, colours and forms of an answer, failures with
// their exit codes and the way out, reading files and finding groups that a command names.
//
// It trusts its caller with everything that the caller's own account may do. It prints nothing from outside that could
// steer a terminal, reads no more of a file than was said, and never does anything that a command did not ask for.
package console

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"cofferdam.dev/internal/cli/progress"
)

// Process is what the command line needs of the process that it runs in.
type Process struct {
	// Args are the arguments after the program's name.
	Args []string
	// In, Out and Err are the standard streams.
	In, Out, Err *os.File
	// LookupEnv reads the environment.
	LookupEnv func(string) (string, bool)
	// Now is the clock.
	Now func() time.Time
}

// Console is one invocation of the command line.
type Console struct {
	Process
	Home    string
	Color   string
	Verbose bool
	Output  string
	// Pass is the exit code of a process that was run for the user, in place of our own.
	Pass int
}

// CheckGlobals checks the flags that all commands have, and settles the state directory.
func (a *Console) CheckGlobals(cmd *cobra.Command) error {
	switch a.Color {
	case "auto", "always", "never":
	default:
		return Usage(cmd, fmt.Sprintf("--color is %q; want auto, always or never", a.Color))
	}
	switch a.Output {
	case "", "table", "json", "yaml":
	default:
		return Usage(cmd, fmt.Sprintf("--output is %q; want table, json or yaml", a.Output))
	}
	return a.FindHome()
}

// FindHome settles the state directory: flag, then COFFERDAM_HOME, then the XDG data directory.
func (a *Console) FindHome() error {
	if a.Home == "" {
		a.Home, _ = a.LookupEnv("COFFERDAM_HOME")
	}
	if a.Home == "" {
		data, _ := a.LookupEnv("XDG_DATA_HOME")
		if !filepath.IsAbs(data) { // the XDG specification: relative paths are invalid
			home, _ := a.LookupEnv("HOME")
			if home == "" {
				return &Failure{Code: ExitError, Err: errors.New("no state directory: neither COFFERDAM_HOME nor HOME is set"), Fix: "cofferdam --home DIR ..."}
			}
			data = filepath.Join(home, ".local", "share")
		}
		a.Home = filepath.Join(data, "cofferdam")
	}
	abs, err := filepath.Abs(a.Home)
	if err != nil {
		return fmt.Errorf("making the state directory's path absolute: %w", err)
	}
	a.Home = abs
	return nil
}

// Interruptible returns a context that ends with Ctrl-C or a request to terminate.
func Interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}

// Say writes one line about the work to standard error.
func (a *Console) Say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.Err, format+"\n", args...) // nowhere is left to complain
}

// Board returns where progress is shown.
func (a *Console) Board() *progress.Board {
	mode := progress.Quiet
	switch {
	case a.Verbose:
		mode = progress.Lines
	case term.IsTerminal(int(a.Err.Fd())):
		mode = progress.Bars
	}
	return progress.New(a.Err, mode, a.Now)
}
