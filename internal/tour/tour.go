// SPDX-License-Identifier: Apache-2.0

// Package tour shows the whole main job on a real image and a real machine, step by step, and says what each step
// proves. Then it plays the hostile host, three times, and shows why it gets nowhere. Where it has the images for it, it goes
// on: a data owner's key goes to the group that it is for, and after a changed byte to none. Last, data lies encrypted on
// storage that changes it and puts it back, and the owner is told.
//
// It is a demonstration that checks itself: every claim is compared with what happened, and an attack that was not
// refused, or was refused for another reason than the one claimed, fails the tour. It trusts nothing that it shows;
// it computes reference values from the guest image on its own, as a relying party would. It opts into the simulated
// root by name and says so. The data owner's domain is for development, and lives as long as the tour. It leaves nothing
// running.
package tour

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Schema identifies the JSON form of a Report. Fields may be added under the same identifier, never changed.
const Schema = "cofferdam.dev/tour/v1"

// Report is the whole tour.
type Report struct {
	Schema string `json:"schema"`
	// Passed is true when every step proved what it claims and every attack was refused for the reason claimed.
	Passed bool `json:"passed"`
	// Simulated is true unless hardware protected the machines.
	Simulated bool   `json:"simulated"`
	Image     string `json:"image"`
	Steps     []Step `json:"steps"`
	// Milliseconds is how long the tour took.
	Milliseconds int64 `json:"milliseconds"`
}

// Step is one thing shown.
type Step struct {
	// Code is stable and machine-readable, e.g. "policy" or "attack-layer".
	Code  string `json:"code"`
	Title string `json:"title"`
	// Attack is true for what the hostile host tries; then OK means that it was refused for the right reason.
	Attack bool   `json:"attack,omitempty"`
	Facts  []Fact `json:"facts"`
	// Proves says what the step proves.
	Proves string `json:"proves"`
	OK     bool   `json:"ok"`
	// Error says what went wrong, if something did.
	Error        string `json:"error,omitempty"`
	Milliseconds int64  `json:"milliseconds"`
}

// Fact is one observation.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// add notes an observation.
func (s *Step) add(name, format string, args ...any) {
	s.Facts = append(s.Facts, Fact{Name: name, Value: fmt.Sprintf(format, args...)})
}

// Style decorates words on a terminal.
type Style struct{ Good, Bad, Strong, Dim func(string) string }

// Printer writes steps for people as they happen.
type Printer struct {
	Out   io.Writer
	Style Style
	n     int
}

// Show writes one step. Output that fails is not worth ending the tour for: its verdict is in the exit code.
func (p *Printer) Show(s *Step) {
	p.n++
	kind := ""
	if s.Attack {
		kind = "ATTACK: "
	}
	_, _ = fmt.Fprintf(p.Out, "\n%s\n", p.Style.Strong(fmt.Sprintf("%2d. %s%s", p.n, kind, s.Title)))
	width := 0
	for _, f := range s.Facts {
		width = max(width, len(f.Name))
	}
	for _, f := range s.Facts {
		for i, line := range strings.Split(f.Value, "\n") {
			name := f.Name
			if i > 0 {
				name = ""
			}
			_, _ = fmt.Fprintf(p.Out, "      %-*s  %s\n", width, name, line)
		}
	}
	switch {
	case !s.OK:
		_, _ = fmt.Fprintf(p.Out, "  %s %s\n", p.Style.Bad("FAILED:"), s.Error)
	case s.Attack:
		_, _ = fmt.Fprintf(p.Out, "  %s %s\n", p.Style.Good("refused:"), s.Proves)
	default:
		_, _ = fmt.Fprintf(p.Out, "  %s %s\n", p.Style.Good("proves:"), s.Proves)
	}
	_, _ = fmt.Fprintf(p.Out, "  %s\n", p.Style.Dim(fmt.Sprintf("(%.1fs)", (time.Duration(s.Milliseconds)*time.Millisecond).Seconds())))
}
