// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"cofferdam.dev/internal/cli/progress"
	"github.com/spf13/cobra"
	"golang.org/x/term"
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

// app is one invocation of the command line.
type app struct {
	Process
	home    string
	color   string
	verbose bool
	output  string
	// pass is the exit code of a process that was run for the user, in place of our own.
	pass int
}

func (a *app) checkGlobals(cmd *cobra.Command) error {
	switch a.color {
	case "auto", "always", "never":
	default:
		return usage(cmd, fmt.Sprintf("--color is %q; want auto, always or never", a.color))
	}
	switch a.output {
	case "", "table", "json", "yaml":
	default:
		return usage(cmd, fmt.Sprintf("--output is %q; want table, json or yaml", a.output))
	}
	return a.findHome()
}

// findHome settles the state directory: flag, then COFFERDAM_HOME, then the XDG data directory.
func (a *app) findHome() error {
	if a.home == "" {
		a.home, _ = a.LookupEnv("COFFERDAM_HOME")
	}
	if a.home == "" {
		data, _ := a.LookupEnv("XDG_DATA_HOME")
		if !filepath.IsAbs(data) { // the XDG specification: relative paths are invalid
			home, _ := a.LookupEnv("HOME")
			if home == "" {
				return &failure{code: exitError, err: errors.New("no state directory: neither COFFERDAM_HOME nor HOME is set"), fix: "cofferdam --home DIR ..."}
			}
			data = filepath.Join(home, ".local", "share")
		}
		a.home = filepath.Join(data, "cofferdam")
	}
	abs, err := filepath.Abs(a.home)
	if err != nil {
		return fmt.Errorf("making the state directory's path absolute: %w", err)
	}
	a.home = abs
	return nil
}

// interruptible returns a context that ends with Ctrl-C or a request to terminate.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
}

// say writes one line about the work to standard error.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.Err, format+"\n", args...) // nowhere is left to complain
}

// board returns where progress is shown.
func (a *app) board() *progress.Board {
	mode := progress.Quiet
	switch {
	case a.verbose:
		mode = progress.Lines
	case term.IsTerminal(int(a.Err.Fd())):
		mode = progress.Bars
	}
	return progress.New(a.Err, mode, a.Now)
}
