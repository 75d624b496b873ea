// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
)

// Reason is how a machine ended.
type Reason string

// The ways in which a machine ends.
const (
	PoweredOff     Reason = "powered off"               // as we asked
	StoppedItself  Reason = "powered off by itself"     // in order, but nobody asked
	Panicked       Reason = "kernel panic"              // the guest's kernel said so
	ResetItself    Reason = "reset"                     // a panic without a word, or the agent ended
	Killed         Reason = "killed"                    // by us
	EmulatorKilled Reason = "QEMU was killed"           // by somebody else
	EmulatorFailed Reason = "QEMU failed"               // it gave up by itself
	Hung           Reason = "the guest does not answer" // and so we killed it
	ChannelLost    Reason = "control channel lost"      // the machine went on without it, and so we killed it
)

// Exit is the end of a machine.
type Exit struct {
	Reason Reason
	// Detail is a sentence about it.
	Detail string
	// Console is the end of what the guest printed, as far as it helps.
	Console string
}

// Err is nil for an end that was asked for, and an *ExitError otherwise.
func (e Exit) Err() error {
	if e.Reason == PoweredOff {
		return nil
	}
	return &ExitError{e}
}

// ExitError is a machine's end as an error.
type ExitError struct{ Exit Exit }

// Error returns the sentence, and the end of the console where that helps.
func (e *ExitError) Error() string {
	s := e.Exit.Detail
	if e.Exit.Console != "" {
		s += "; the end of its console:\n  " + strings.ReplaceAll(e.Exit.Console, "\n", "\n  ")
	}
	return s
}

// observed is everything that tells one end from another.
type observed struct {
	shutdown string // the reason of QEMU's SHUTDOWN event
	panicked bool   // QEMU said GUEST_PANICKED
	full     bool   // QEMU said that the host's disk is full
	asked    bool   // we asked the guest to power off
	killed   Reason // why we killed it, if we did
	wait     error  // QEMU's end
	stderr   string
}

// consoleLines is how much of the console goes into a message.
const consoleLines = 12

// DiskFull is what a person is told of a machine whose writes the host had no room for.
const DiskFull = "the host's disk is full"

// classify tells how a machine ended. A full disk of the host may well be why, unless the end was asked for.
func classify(o observed, lastLines string) Exit {
	e := classifyEnd(o, lastLines)
	if o.full && e.Reason != PoweredOff && e.Reason != Killed {
		e.Detail += "; " + DiskFull
	}
	return e
}

func classifyEnd(o observed, lastLines string) Exit {
	switch {
	case o.panicked || o.shutdown == "guest-panic":
		return Exit{Panicked, "the guest's kernel panicked", lastLines}
	case o.shutdown == "guest-shutdown" && o.asked:
		return Exit{Reason: PoweredOff, Detail: "the guest powered off"}
	case o.shutdown == "guest-shutdown":
		return Exit{StoppedItself, "the guest powered off without being asked", lastLines}
	case o.shutdown == "guest-reset":
		return Exit{ResetItself, "the guest reset its machine: its kernel panicked or its agent ended", lastLines}
	case o.killed == Hung:
		return Exit{Hung, "the guest did not answer for too long and was killed", lastLines}
	case o.killed == ChannelLost:
		return Exit{ChannelLost, "the guest closed its control channel and went on; it was killed", lastLines}
	case o.killed != "":
		return Exit{Reason: Killed, Detail: "the machine was killed"}
	}
	return classifyEmulator(o, lastLines)
}

// classifyEmulator is for a QEMU that ended without an event.
func classifyEmulator(o observed, lastLines string) Exit {
	var exit *exec.ExitError
	if errors.As(o.wait, &exit) {
		status, ok := exit.Sys().(syscall.WaitStatus)
		if ok && status.Signaled() {
			return Exit{EmulatorKilled, fmt.Sprintf("QEMU was ended by signal %d (%s) from outside", status.Signal(), status.Signal()), ""}
		}
	}
	detail := "QEMU ended without an event"
	if o.wait != nil {
		detail = fmt.Sprintf("QEMU failed: %v", o.wait)
	}
	if s := strings.TrimSpace(o.stderr); s != "" {
		detail += ": " + s
	}
	return Exit{EmulatorFailed, detail, lastLines}
}
