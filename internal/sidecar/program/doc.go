// SPDX-License-Identifier: Apache-2.0

// Package program starts the sidecars of a container group: it reads their flags and their environment, opens what they
// stand on, and serves until it is told to end. The command line of cofferdam and the small program of the sidecar image
// are both made of it, so that one does exactly what the other does.
//
// It trusts its flags and its environment, which the group's policy pins, and the files that these name. It opens no door
// that they do not ask for, listens on the loopback address alone, and never goes on without a source of reports.
package program

import (
	"fmt"
	"io"
)

// Process is what a sidecar needs of the process that it runs in.
type Process struct {
	// Out gets the addresses that are listened on, one a line, and Err the log.
	Out, Err io.Writer
	// LookupEnv reads the environment.
	LookupEnv func(string) (string, bool)
}

// UsageError says that flags, arguments or environment ask for nothing that can be done.
type UsageError struct{ Message string }

// Error returns the message.
func (e *UsageError) Error() string { return e.Message }

func usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }
