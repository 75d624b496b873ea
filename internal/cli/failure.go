// SPDX-License-Identifier: Apache-2.0

package cli

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
	exitError     = 1
	exitUsage     = 2
	exitRefused   = 3
	exitUndecided = 4
	exitOwn       = 125
	exitInterrupt = 130 // 128 + SIGINT, as shells have it
	exitPipe      = 141 // 128 + SIGPIPE, likewise
)

// failure is an error with what a person needs beside it: the exit code, details, and the next command.
type failure struct {
	code    int
	err     error
	details []string // one line each, shown below the error
	fix     string   // what to do, preferably a command
	// decision is a refusal as logs carry it, shown to whoever wants all of it.
	decision string
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// usage is the failure of a command line that asks for nothing that can be done.
func usage(cmd *cobra.Command, message string) error {
	return &failure{code: exitUsage, err: errors.New(message), fix: cmd.CommandPath() + " --help"}
}

// fixed puts the next command beside an error.
func fixed(err error, format string, args ...any) error {
	return &failure{code: exitError, err: err, fix: fmt.Sprintf(format, args...)}
}

var (
	// errSilent says that everything was said already and only the exit code is left.
	errSilent = errors.New("")
	// errLeft is silent, too: the user does not want to wait for what is still going on.
	errLeft = fmt.Errorf("left%w", errSilent)
)

// quiet ends the command with an exit code and no further words.
func quiet(code int) error { return &failure{code: code, err: errSilent} }

func plural(n int) string {
	if n == 1 {
		return ""
	}
	return "s"
}

// finish prints what went wrong and returns the exit code.
func (a *app) finish(err error) int {
	if err == nil {
		return a.pass
	}
	err = explain(err)
	f := &failure{code: exitError, err: err}
	_ = errors.As(err, &f) // keeps the plain failure where there is no better one
	if errors.Is(err, errSilent) {
		return f.code
	}
	if f.fix == "" {
		f.fix = a.homeHint(err)
	}
	s := a.style(a.Err)
	a.say("%s %s", s.bad("cofferdam:"), plain.Text(strings.TrimSpace(err.Error()))) // it may quote anybody
	for _, d := range f.details {
		a.say("  %s", plain.Text(d))
	}
	if f.decision != "" && a.verbose {
		a.say("  decision: %s", plain.Text(f.decision))
	}
	if f.fix != "" {
		a.say("  %s %s", s.strong("try:"), plain.Text(f.fix))
	}
	return f.code
}

// explain turns errors of other rooms that have a meaning for a person into failures.
func explain(err error) error {
	var f *failure
	if errors.As(err, &f) {
		return err
	}
	if d := denialOf(err); d != nil {
		return d
	}
	if errors.Is(err, context.Canceled) {
		return &failure{code: exitInterrupt, err: errors.New("interrupted")}
	}
	return err
}

// homeHint is what to do when the state directory can not be used.
func (a *app) homeHint(err error) string {
	var at *fs.PathError
	if !errors.As(err, &at) || a.home == "" {
		return ""
	}
	inside := strings.HasPrefix(at.Path, a.home) || strings.HasPrefix(a.home, at.Path)
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
