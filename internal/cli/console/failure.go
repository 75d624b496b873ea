// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"cofferdam.dev/internal/plain"
)

// The exit codes. `run` and `group exec` pass the exit code of their process through and use exitOwn for a failure of
// cofferdam itself; a usage error and a refusal before the process started keep their codes.
const (
	ExitError     = 1
	ExitUsage     = 2
	ExitRefused   = 3
	ExitUndecided = 4
	ExitOwn       = 125
	ExitInterrupt = 130 // 128 + SIGINT, as shells have it
	ExitPipe      = 141 // 128 + SIGPIPE, likewise
)

// Failure is an error with what a person needs beside it: the exit code, details, and the next command.
type Failure struct {
	Code    int
	Err     error
	Details []string // one line each, shown below the error
	Fix     string   // what to do, preferably a command
	// decision is a refusal as logs carry it, shown to whoever wants all of it.
	decision string
}

func (f *Failure) Error() string { return f.Err.Error() }
func (f *Failure) Unwrap() error { return f.Err }

// Usage is the failure of a command line that asks for nothing that can be done.
func Usage(cmd *cobra.Command, message string) error {
	return &Failure{Code: ExitUsage, Err: errors.New(message), Fix: cmd.CommandPath() + " --help"}
}

// Fixed puts the next command beside an error.
func Fixed(err error, format string, args ...any) error {
	return &Failure{Code: ExitError, Err: err, Fix: fmt.Sprintf(format, args...)}
}

var (
	// ErrSilent says that everything was said already and only the exit code is left.
	ErrSilent = errors.New("")
	// ErrLeft is silent, too: the user does not want to wait for what is still going on.
	ErrLeft = fmt.Errorf("left%w", ErrSilent)
)

// Quiet ends the command with an exit code and no further words.
func Quiet(code int) error { return &Failure{Code: code, Err: ErrSilent} }

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// Finish prints what went wrong and returns the exit code.
func (a *Console) Finish(err error) int {
	if err == nil {
		return a.Pass
	}
	err = Explain(err)
	f := &Failure{Code: ExitError, Err: err}
	_ = errors.As(err, &f) // keeps the plain failure where there is no better one
	if errors.Is(err, ErrSilent) {
		return f.Code
	}
	if f.Fix == "" {
		f.Fix = a.homeHint(err)
	}
	s := a.Style(a.Err)
	a.Say("%s %s", s.Bad("cofferdam:"), plain.Text(strings.TrimSpace(err.Error()))) // it may quote anybody
	for _, d := range f.Details {
		a.Say("  %s", plain.Text(d))
	}
	if f.decision != "" && a.Verbose {
		a.Say("  decision: %s", plain.Text(f.decision))
	}
	if f.Fix != "" {
		a.Say("  %s %s", s.Strong("try:"), plain.Text(f.Fix))
	}
	return f.Code
}

// Explain turns errors of other rooms that have a meaning for a person into failures.
func Explain(err error) error {
	var f *Failure
	if errors.As(err, &f) {
		return err
	}
	if d := denialOf(err); d != nil {
		return d
	}
	if errors.Is(err, context.Canceled) {
		return &Failure{Code: ExitInterrupt, Err: errors.New("interrupted")}
	}
	return err
}

// homeHint is what to do when the state directory can not be used.
func (a *Console) homeHint(err error) string {
	var at *fs.PathError
	if !errors.As(err, &at) || a.Home == "" {
		return ""
	}
	inside := strings.HasPrefix(at.Path, a.Home) || strings.HasPrefix(a.Home, at.Path)
	switch {
	case !inside:
		return ""
	case errors.Is(err, syscall.ENOSPC):
		return "make room, or another state directory: --home DIR or COFFERDAM_HOME"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS), errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrNotExist):
		return "a state directory that can be written: --home DIR or COFFERDAM_HOME"
	}
	return ""
}
